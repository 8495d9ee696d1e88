"""Whatever the statement, its shape holds nobody's data, is its own shape, and is made in time."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.sanitize import sql_shape
from heatshield.sanitize.sql_shape import _DIALECTS, shape_of

DIALECTS = ["", *_DIALECTS]
ESCAPING = {name for name, dialect in _DIALECTS.items() if dialect.backslash}
DOUBLE_IS_TEXT = {name for name, dialect in _DIALECTS.items() if dialect.double == "text"}

SECRET = "zqxsecret"  # noqa: S105  # stands for what must not survive
WORDS = st.sampled_from(
    ["SELECT", "FROM", "WHERE", "AND", "IN", "VALUES", "INSERT", "INTO", "UPDATE", "SET", "t.a",
     "AS", "stickers", "NULL", "LIMIT", "BETWEEN", "WHEN", "THEN", "ELSE", "NOT", "Änderung", "_x"]
)  # fmt: skip
PUNCTUATION = st.sampled_from([*"(),.=<>+-*/;[]|&^!~{}", "::", "->", "->>", "||", "<=", "@>"])
PLACEHOLDERS = st.sampled_from(["?", "%s", "%(a)s", ":a", "$1", "@p", "?1", "%%", ":1"])
TEXT = st.text(st.sampled_from("abc '\"\\`$[](),;%?:-/*\n01é") | st.characters(), max_size=12)


def with_secret(text):
    return text.map(lambda around: f"{around}{SECRET}{around}")


@st.composite
def texts(draw, dialect):
    """A literal of the dialect, well-formed, that holds the secret."""
    body = draw(with_secret(TEXT))
    kinds = ["'"]
    if dialect in DOUBLE_IS_TEXT:
        kinds.append('"')
    if dialect not in ESCAPING:
        kinds += ["E", "N", "$"]
    if dialect == "oracle":
        kinds.append("q")
    kind = draw(st.sampled_from(kinds))
    if kind == "$":
        tag = draw(st.sampled_from(["", "t", "body_é"]))
        return f"${tag}${body.replace('$', '')}${tag}$"
    if kind == "q":
        return f"q'[{body.replace(']', '')}]'"
    quote = '"' if kind == '"' else "'"
    body = body.replace(quote, quote * 2)
    if dialect in ESCAPING or kind == "E":
        body = body.replace("\\", "\\\\")
    return f"{kind if kind in 'EN' else ''}{quote}{body}{quote}"


NUMBERS = st.sampled_from(["7", "-12.5", "1e-9", "0x1F", ".5", "1_000", "3.", "12abc"])


def comments(dialect):
    inside = with_secret(st.text(st.sampled_from("ab '\"-\\"), max_size=5))
    forms = [inside.map(lambda text: f"--{text}\n"), inside.map(lambda text: f"/*{text}*/")]
    if dialect in {"postgresql", "mssql"}:
        forms.append(inside.map(lambda text: f"/* a /* {text} */ {text} */"))
    if dialect in {"mysql", "mariadb"}:
        forms.append(inside.map(lambda text: f"#{text}\n"))
    return st.one_of(forms)


def parts(dialect):
    return st.one_of(WORDS, PUNCTUATION, PLACEHOLDERS, NUMBERS, texts(dialect), comments(dialect))


@st.composite
def statements(draw):
    """A dialect and a statement of it, with secrets in its literals and comments."""
    dialect = draw(st.sampled_from(DIALECTS))
    chosen = draw(st.lists(parts(dialect), max_size=30))
    return dialect, " ".join(chosen)


ODD = st.lists(
    st.sampled_from(
        [*"aEnNqx_'\"`[]$$??%(s):@#-/*.,; \n\\019+=é", "SELECT ", "AND ", "''", "$1", "%s", ", ?"]
    ),
    max_size=60,
).map("".join)


@given(statements())
def test_no_literal_and_no_comment_survives(made):
    dialect, statement = made
    shape = shape_of(statement, dialect)
    assert SECRET not in shape.text
    assert SECRET not in shape.summary
    assert not re.search(r"(?<![\w$])\d", shape.text), "a number survived"


@given(statements(), st.integers(0, 400))
def test_no_literal_survives_a_statement_that_is_cut_anywhere(made, length):
    dialect, statement = made
    assert SECRET not in shape_of(statement[:length], dialect).text


@given(statements())
def test_a_shape_is_its_own_shape(made):
    dialect, statement = made
    shape = shape_of(statement, dialect).text
    assert shape_of(shape, dialect).text == shape


@given(st.sampled_from(DIALECTS), ODD)
def test_the_shape_of_nonsense_is_its_own_shape_too(dialect, statement):
    shape = shape_of(statement, dialect).text
    assert shape_of(shape, dialect).text == shape


@given(st.sampled_from(DIALECTS), st.text())
def test_a_shape_is_never_longer_than_its_statement_and_never_fails(dialect, statement):
    assert len(shape_of(statement, dialect).text) <= max(1, len(statement))


@given(st.lists(st.integers(), min_size=1, max_size=30), st.lists(st.integers(), min_size=1))
def test_lists_of_any_length_and_sign_are_one(some, others):
    def statement(values):
        return f"DELETE FROM t WHERE id IN ({', '.join(map(str, values))})"  # noqa: S608  # is not run

    assert shape_of(statement(some)) == shape_of(statement(others))


LONG = 32_768
"""Eight times what is looked at: what takes quadratic time would take seconds here."""


@pytest.mark.parametrize("dialect", ["", "postgresql", "sqlite", "mysql", "mssql", "oracle"])
@pytest.mark.parametrize(
    "unit",
    ["1,", "a, ", "'", '"', "$a", "(", "(a),", "=-", "/*", "/* */", "-", "E'", ":a", "[", "`",
     "\\'", "AND -", "(()", "?,", "q'[", "%(", "(?, now()), ", "FROM (SELECT ", "1e-", ".5", "$$",
     "@a", "x AS (SELECT ", "[a] ", "a.", "$1"],
)  # fmt: skip
def test_the_time_is_linear_whatever_repeats(dialect, unit, monkeypatch):
    monkeypatch.setattr(sql_shape, "MAX_STATEMENT", LONG)
    statement = ("WITH " if "AS" in unit else "SELECT ") + unit * LONG
    began = time.process_time()
    shape_of(statement, dialect)
    assert time.process_time() - began < 0.5

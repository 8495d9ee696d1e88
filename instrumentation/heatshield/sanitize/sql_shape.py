"""The shape of an SQL statement: what is left without anything that may be data. Pure.

``SELECT * FROM stickers WHERE owner = 'ann' AND id IN (7, 8)  -- mine`` has the shape
``SELECT * FROM stickers WHERE owner = ? AND id IN (?)``. Literals and placeholders are question
marks, lists and rows of them are one, comments are gone, whitespace is folded. What can't be told
apart from a literal is masked as one: an unterminated string, a number glued to letters, what
SQLite would read as a text if no column had its name. ``NULL``, ``TRUE`` and ``FALSE`` stay.

One pass of a regular expression whose every repetition is possessive, so that the time is linear in
the statement, of which at most :data:`MAX_STATEMENT` characters are looked at. Shapes are kept by
statement, so that a repeated one costs two look-ups.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from heatshield.sanitize.sql_summary import summary_of

__all__ = ["MAX_STATEMENT", "Shape", "shape_of"]

MAX_STATEMENT: Final = 4_096
"""Characters that are looked at, and most of a shape: a span's attribute holds no more."""

MAX_KEPT: Final = 1_024
"""Shapes that are kept: some 4 MiB at worst, where a service writes values into its statements."""

_CUT: Final = " ..."


class Shape(NamedTuple):
    """A statement without its data.

    Attributes:
        text: the shape.
        summary: verb and main table, of low cardinality: ``SELECT stickers``; may be empty.
        attributes: both and their parts by OpenTelemetry's names, for spans; not to be changed.
    """

    text: str
    summary: str
    attributes: Mapping[str, str]


class _Dialect(NamedTuple):
    """How texts are quoted.

    Attributes:
        backslash: whether a backslash escapes a quote: yes, no, or unknown.
        double: what double quotes hold: a ``name``, a ``text``, or ``either``.
        hash_comments: whether ``#`` begins a comment.
        nested_comments: whether comments nest.
        brackets: whether square brackets quote names.
        q_quotes: whether there is Oracle's ``q'[...]'``.
    """

    backslash: bool | None = None
    double: str = "either"
    hash_comments: bool = False
    nested_comments: bool = False
    brackets: bool = False
    q_quotes: bool = False


_POSTGRES: Final = _Dialect(backslash=False, double="name", nested_comments=True)
_MYSQL: Final = _Dialect(backslash=True, double="text", hash_comments=True)
_SPARK: Final = _Dialect(backslash=True, double="text")
_DIALECTS: Final[Mapping[str, _Dialect]] = {
    "postgresql": _POSTGRES,
    "cockroachdb": _POSTGRES,
    "redshift": _POSTGRES,
    "duckdb": _POSTGRES,
    "sqlite": _Dialect(backslash=False, double="either", brackets=True),
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "bigquery": _Dialect(backslash=True, double="text", hash_comments=True),
    "databricks": _SPARK,
    "hive": _SPARK,
    "spark": _SPARK,
    "clickhouse": _Dialect(backslash=True, double="name"),
    "clickhousedb": _Dialect(backslash=True, double="name"),
    "snowflake": _Dialect(backslash=True, double="name"),
    "mssql": _Dialect(backslash=False, double="name", nested_comments=True, brackets=True),
    "oracle": _Dialect(backslash=False, double="name", q_quotes=True),
    "trino": _Dialect(backslash=False, double="name"),
}
_UNKNOWN: Final = _Dialect()
"""Where it is unknown whether a backslash escapes, the rest is masked from the first that may."""


def shape_of(statement: str, system: str = "") -> Shape:
    """The shape of a statement; its caller may hold on to it.

    Args:
        statement: SQL of any dialect, well-formed or not.
        system: the database, by SQLAlchemy's name of its dialect; the safest reading if unknown.
    """
    if len(statement) > MAX_STATEMENT:
        return _shape(statement[: MAX_STATEMENT - len(_CUT)], system, _CUT)
    return _shape(statement, system, "")


@lru_cache(MAX_KEPT)
def _shape(statement: str, system: str, cut: str) -> Shape:
    dialect = _DIALECTS.get(system, _UNKNOWN)
    text = _masking(dialect)(statement)
    text = _GLUED.sub("?", " ".join(text.split()))
    if "'" in statement:
        text = _PREFIX.sub("?", text)
    if "-" in text or "+" in text:
        text = _SIGN.sub(r"\1", text)
    text = _LIST.sub(r"\1", text)
    text = _ROWS.sub(r"\1", text).rstrip("; ")
    if cut:
        text = text.rstrip("(?, ") + cut  # what is left of a list says nothing
    summary = summary_of(text)
    attributes = {"db.query.text": text}
    if summary.operation:
        attributes["db.query.summary"] = summary.text
        attributes["db.operation.name"] = summary.operation
    if summary.collection:
        attributes["db.collection.name"] = summary.collection
    return Shape(text, summary.text, attributes)


# -- literals --------------------------------------------------------------------------------------

# What is masked or taken out begins with one of a few characters, which the engine finds fast. Each
# alternative looks back at the one that was found and goes on from there.

_ESCAPED: Final = r"(?:[^'\\]++|\\(?:.|\Z)|'')*+(?:'|\Z)"
_PLAIN: Final = r"(?:[^']++|'')*+(?:'|\Z)"
_AMBIGUOUS: Final = r"(?:[^'\\]++|''|\\(?!'))*+(?:\\'.*+|'|\Z)"
_PREFIX_E: Final = r"(?<=[eE]')(?<![\w$].')"
_TEXTS: Final = {
    True: rf"(?<='){_ESCAPED}",
    False: rf"{_PREFIX_E}{_ESCAPED}|(?<='){_PLAIN}",
    None: rf"{_PREFIX_E}{_ESCAPED}|(?<='){_AMBIGUOUS}",
}
_Q_TEXT: Final = r"""(?<=[qQ]')(?:
      \[(?>.*?(?:\]'|\Z)) | \{(?>.*?(?:\}'|\Z)) | <(?>.*?(?:>'|\Z)) | \((?>.*?(?:\)'|\Z))
    | (?P<q>[^\s\[{<(])(?>.*?(?:(?P=q)'|\Z)) )"""
_DOLLAR_TEXT: Final = (
    r"(?<=\$)(?<![\w$].)(?:(?P<tag>(?:[^\W\d]\w*+)?)\$(?>.*?(?:\$(?P=tag)\$|\Z))|\d++)"
)
"""Also a numbered placeholder."""
_DOUBLE_TEXT: Final = r'(?<=")(?:[^"\\]++|\\(?:.|\Z)|"")*+(?:"|\Z)'
_NUMBER: Final = r"(?:(?<=\d)(?<![\w$].)|(?<=\.)(?<![\w$].)\d)[\w.$]*+(?:(?<=[eE])[-+]\d[\w.$]*+)?"
_PLACEHOLDER: Final = r"""
      (?<=\?)\d*+ | (?<=%)(?<!%.)(?:\([^()\n]*+\))?[sbt](?!\w)
    | (?<=:)(?<![:\w?\])].)(?:[^\W\d]\w*+|\d++) | (?<=@)(?<![@\w?].)[^\W\d]\w*+"""

_LINE_COMMENT: Final = r"(?<=-)-[^\n]*+"
_HASH_COMMENT: Final = r"(?<=\#)[^\n]*+"
_COMMENT: Final = r"(?<=/)\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)"
_INNER: Final = r"[^*/]++|\*(?!/)|/(?!\*)"
_NESTED_COMMENT: Final = (
    rf"(?<=/)\*(?:{_INNER}|/\*(?:{_INNER}|/\*(?:{_INNER})*+(?:\*/|\Z))*+(?:\*/|\Z))*+(?:\*/|\Z)"
)
"""Deeper than statements nest them; there is no recursion here."""

_BACKQUOTED: Final = r"(?<=`)(?:[^`]++|``)*+(?:`|\Z)"
_BRACKETED: Final = r"(?<=\[)(?<![\w\])?].)[^\]]*+(?:\]|\Z)"
_DOUBLE_QUOTED: Final = r'(?<=")(?:[^"]++|"")*+(?:"|\Z)'

_A_NAME: Final = re.compile(r"""["`\[][^\W\d][\w$#.-]*(?: [\w$#.-]+)*["`\]]""")
"""A quoted name as people give them; anything else in such quotes is masked."""

_MAX_NAME: Final = 66

_BEFORE_TABLE: Final = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|INDEX|VIEW|EXISTS|REFERENCES)\s*\Z", re.IGNORECASE
)
_LOOK_BEHIND: Final = 24
"""Characters before a quoted word that tell whether it is a table."""


@lru_cache
def _masking(dialect: _Dialect) -> Callable[[str], str]:
    """A function that puts a question mark for every literal, and a space for a comment."""
    double = _DOUBLE_TEXT if dialect.double == "text" else _DOUBLE_QUOTED
    alternatives = [
        *[_Q_TEXT] * dialect.q_quotes, _TEXTS[dialect.backslash], _NUMBER, _PLACEHOLDER,
        _DOLLAR_TEXT, double, _LINE_COMMENT,
        _NESTED_COMMENT if dialect.nested_comments else _COMMENT, _BACKQUOTED,
        *[_HASH_COMMENT] * dialect.hash_comments, *[_BRACKETED] * dialect.brackets,
    ]  # fmt: skip
    begins = "['\"`$?%:@.\\d/\\-" + "#" * dialect.hash_comments + r"\[" * dialect.brackets + "]"
    pattern = re.compile(f"{begins}(?:{'|'.join(alternatives)})", re.DOTALL | re.VERBOSE)
    may_be_name = {"`", "["} | ({'"'} if dialect.double != "text" else set())
    either = dialect.double == "either"

    def masked(match: re.Match[str]) -> str:
        found = match[0]
        begin = found[0]
        if begin in _COMMENTS:
            return " "
        if begin in may_be_name and len(found) <= _MAX_NAME and _A_NAME.fullmatch(found):
            return found if begin != '"' or not either or _in_place_of_table(match) else "?"
        return "?"

    return lambda statement: pattern.sub(masked, statement)


_COMMENTS: Final = frozenset("-/#")


def _in_place_of_table(match: re.Match[str]) -> bool:
    """Whether what is in double quotes can't be a text: SQLite takes them for either."""
    statement, start, end = match.string, match.start(), match.end()
    if statement[end : end + 1] == "." or statement[max(0, start - 1) : start] == ".":
        return True
    return _BEFORE_TABLE.search(statement, max(0, start - _LOOK_BEHIND), start) is not None


# -- folding ---------------------------------------------------------------------------------------

_GLUED: Final = re.compile(r"\?[\w$]++")
"""What stands right after a literal is as good as part of it."""

_PREFIX: Final = re.compile(r"(?<![\w$])(?:[nN]?[qQ]|[eEnNbBxXrR]|[uU]&)\?")
"""``E'...'`` and its like, once the text is masked."""

_SIGN: Final = re.compile(
    r"((?:[=<>(,\[]|\b(?:SELECT|LIMIT|OFFSET|BETWEEN|AND|OR|THEN|ELSE|WHEN|RETURN|BY)\b) ?)"
    r"(?:[-+] ?)++(?=\?)",
    re.IGNORECASE,
)
"""Signs of numbers: a shape is the same for 5 and -5."""

_LIST: Final = re.compile(r"(\?(?:::[\w .\"\[\]]{1,40}+(?:\(\?\))?+)?+)(?: ?, ?\1)++")
"""Also where each has PostgreSQL's cast to the same type."""

_ROWS: Final = re.compile(r"(\((?:[^()]++|\(\))*+\))(?: ?, ?\1)++")

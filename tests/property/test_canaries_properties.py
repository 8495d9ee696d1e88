"""No value and no secret is left of a text, whatever stands around it and within it."""

import json
import sqlite3

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from heatshield.sanitize.redaction import ENDINGS, SECRETS
from heatshield.sanitize.sanitizer import Sanitizer

MARK = "CANARY"
CLEANER = Sanitizer()

ODD = st.text(st.sampled_from("ab1 \n\t'\"`\\[](){}<>:;,=$%?#&|-_.é"), max_size=12)
VALUES = st.tuples(ODD, ODD).map(lambda around: f"{around[0]}{MARK}{around[1]}")
BEFORE = st.sampled_from(["", "failed: ", "a [b] c: 'd\n", '{"x": "y"}\n', "path/x?y=z "])
WITHIN = st.text(st.characters(exclude_characters="\"'\\", exclude_categories=["Cs"]), max_size=12)
NAMES = st.sampled_from(sorted(SECRETS | set(ENDINGS)))


def refused(value):
    """SQLAlchemy's error of a value that the database refuses, with parameters and statement."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (v text CHECK (v = 'x'))"))
        try:
            connection.execute(sa.text("INSERT INTO t VALUES (:v)"), {"v": value})
        except sa.exc.IntegrityError as error:
            return error
    raise AssertionError("it was not refused")


@given(BEFORE, VALUES)
def test_of_sqlalchemys_errors(before, value):
    error = refused(value)
    stack = f'Traceback (most recent call last):\n  File "x", line 1, in y\n{error}\n'
    for text in (f"{before}{error}", f"{before}sqlalchemy.exc.IntegrityError: {error}", stack):
        assert MARK not in CLEANER.text(text)
    assert MARK not in CLEANER.quoting(f"{before}{error} and {error!r}", error)


@given(BEFORE, VALUES)
def test_of_errors_that_a_service_derives(before, value):
    error = sqlite3.DataError(f"odd value '{value.replace(chr(39), '')}' of t")
    assert MARK not in CLEANER.quoting(f"{before}{error}\n{error!r}", error)


@given(BEFORE, VALUES, VALUES)
def test_of_redis_errors(before, first, second):
    flat = " ".join(f"'{value}'".replace("\n", " ") for value in (first, second))
    unknown = f"unknown command 'x', with args beginning with: {flat}"
    piped = f"Command # 1 (SET {first} {second}) of pipeline caused error: WRONGTYPE Operation"
    for text in (unknown, piped):
        assert MARK not in CLEANER.text(before + text)
        assert MARK not in CLEANER.database_error(text)


@given(BEFORE, VALUES)
def test_of_postgresqls_details(before, value):
    text = f"duplicate key\nDETAIL:  Key (email)=({value}) already exists."
    assert MARK not in CLEANER.text(before + text)
    assert MARK not in CLEANER.text(f"psycopg.errors.UniqueViolation: {text}")


@given(BEFORE, NAMES, WITHIN, WITHIN)
def test_of_secrets_in_json_and_in_pythons_own_spelling(before, name, first, second):
    value = f"{first}{MARK}{second}"
    plain = {"page": 1, name: value, "list": [{name: [value]}]}
    twice = json.dumps({"body": json.dumps(plain)})
    for text in (json.dumps(plain), json.dumps(plain, ensure_ascii=False), repr(plain), twice):
        assert MARK not in CLEANER.text(before + text)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_text_has_an_answer_and_the_same_twice(data):
    text = data.decode("utf-8", "replace")
    once = CLEANER.text(text)
    assert CLEANER.text(once) == once

"""What the error of a database or a store may tell: pure, from its message.

Databases quote the values they object to: ``Key (email)=(ann@example.org) already exists``,
``invalid input syntax for type integer: "ann"``. So only the first line is kept, and of what it
quotes only names: a quoted word stays if the word before it says that it is one (``relation
"stickers"``). Redis quotes the arguments of commands that it does not know, and its client those of
a pipeline: they are gone as well.

The same errors come again in texts of others: statuses of enclosing spans, stacks, log lines. There
the path of the error's class (``psycopg.errors.UniqueViolation``) or what such errors say tells
them from everything else.
"""

import re
from collections.abc import Iterator
from typing import Final

from heatshield.sanitize.sql_shape import shape_of

__all__ = [
    "MAX_MESSAGE",
    "is_of_database",
    "masked",
    "masked_whole",
    "quotes_values",
    "status_of",
    "without_values",
]

MAX_MESSAGE: Final = 500
"""Characters of a message."""

_NAMED: Final = (
    "relation|table|column|constraint|index|sequence|schema|database|type|domain|function|operator"
    "|procedure|trigger|view|key|cursor|savepoint|extension|collection|field"
)
"""Words that a name of something follows."""

_QUOTED: Final = re.compile(
    rf"""(?P<name>(?<!such\s)\b(?:{_NAMED})\s+(?:"[\w$.]{{1,128}}+"|'[\w$.]{{1,128}}+'|`[\w$.]{{1,128}}+`))
    | "(?:[^"\\]|\\.|"")*+(?:"|\Z) | '(?:[^'\\]|\\.|'')*+(?:'|\Z) | `[^`]*+(?:`|\Z)
    | (?P<kind><class\s'[\w.]{{1,200}}+'> | \bserver\sat\s"[^"\s]{{1,255}}"
        | \bport\s\d{{1,5}}\b | \barguments\sfor\s'[\w|.-]{{1,64}}+'\scommand )
    | (?P<said>\$\d++) | (?<![\w$])[-+]?\.?\d[\w.]*+""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""What may be a value: all that is quoted and all numbers, but for names, ``$1``, and addresses."""

_VALUE: Final = re.compile(
    r"\bquery argument \$\d++:|\bdup key:|\bKey \(|\bFailing row|\bparameters:|\[SQL:|=\("
    r"|\bwith args beginning with:|\bCONFIG parameter:",
    re.IGNORECASE,
)
"""After these, a message goes on with values that are not quoted."""


_PIPELINE: Final = re.compile(
    r"\bCommand # \d+ \((?:.*?\) of pipeline caused error: ?|.*)", re.DOTALL | re.IGNORECASE
)
"""A command with its arguments; of a text that was cut, all that is left."""

_PIPELINE_SAYS: Final = "Command of pipeline caused error: "


def masked(message: str) -> str:
    """An error's message without the data it quotes."""
    if "Command #" in message:
        message = _PIPELINE.sub(_PIPELINE_SAYS, message)
    line = message.strip().partition("\n")[0][:MAX_MESSAGE]
    return _line(line)


def _line(line: str) -> str:
    found = _VALUE.search(line)
    told = line if found is None else line[: found.end()] + " ?"
    return _QUOTED.sub(_name_or_mark, told)


def _name_or_mark(found: re.Match[str]) -> str:
    return found["name"] or found["kind"] or found["said"] or "?"


def status_of(error: BaseException) -> str:
    """The database's own code of an error, e.g. PostgreSQL's ``23505``; empty if it has none."""
    code: object = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return code if isinstance(code, str) else ""


_LIBRARIES: Final = frozenset(
    {
        "sqlalchemy", "psycopg", "psycopg2", "asyncpg", "sqlite3", "aiosqlite", "pymysql",
        "MySQLdb", "mysql", "aiomysql", "asyncmy", "oracledb", "cx_Oracle", "pyodbc", "pymssql",
        "duckdb", "clickhouse_driver", "clickhouse_connect", "cassandra", "redis", "valkey",
        "pymongo", "elasticsearch", "peewee", "tortoise",
    }
)  # fmt: skip
"""Packages whose errors quote what the service sent."""

_DJANGO: Final = "django.db"
"""The part of Django that wraps the drivers' errors."""


def quotes_values(error: BaseException) -> bool:
    """Whether an error is a database's or a store's, or derived from one."""
    return any(is_of_database(str(kind.__module__)) for kind in type(error).__mro__)


def is_of_database(path: str) -> bool:
    """Whether a module, or a class by its whole path, is of a database's or a store's library."""
    return path.partition(".")[0] in _LIBRARIES or path.startswith(_DJANGO)


# -- in what others write of them ------------------------------------------------------------------

_MARKS: Final = (
    "DETAIL:", "CONTEXT:", "LINE ", "[SQL:", "[parameters:", "dup key:", "query argument $",
    "Command #",
)  # fmt: skip
_MARKS_OF_QUOTES: Final = (
    "Duplicate entry", "invalid input ", 'near "', "near '", "unknown ", "literal: ",
    "value: ", "token: ", "out of range: ", 'parameter "', "No such key ",
)  # fmt: skip
"""Without one of these in it, no text quotes a database's error with values."""

_STEMS: Final = (
    "sql", "SQL", "psycopg", "asyncpg", "asyncmy", "redis", "valkey", "pymongo", "racle", "pyodbc",
    "duckdb", "clickhouse", "cassandra", "elasticsearch", "peewee", "tortoise", _DJANGO,
)  # fmt: skip
"""Parts of the libraries' names."""

_QUOTING: Final = re.compile(
    r"""(\bdup[ ]key:[ ]|\bDuplicate[ ]entry[ ]
    |\binvalid[ ]input[ ]for[ ]query[ ]argument[ ]\$\d+:[ ]
    |\binvalid[ ]input[ ](?:syntax|value)[ ]for[ ][^:\n]{1,80}:[ ]
    |\bmalformed[ ]\w+[ ]literal:[ ]|\bfield[ ]value[ ]out[ ]of[ ]range:[ ]
    |\b(?:[Ii]ncorrect|INCORRECT)[ ]\w+[ ]value:[ ]|\bunrecognized[ ]token:[ ]
    |\bunrecognized[ ]configuration[ ]parameter[ ]|\bat[ ]or[ ]near[ ](?=")
    |\bunknown[ ](?:sub)?command[ ](?=['"`])|\bNo[ ]such[ ]key[ ](?=')).*$""",
    re.MULTILINE | re.VERBOSE,
)
"""Whatever follows on their line are values."""

_GOES_ON: Final = r"""
    \n(?=[ |]*+(?:DETAIL|HINT|QUERY|CONTEXT|LINE[ ]\d{1,9}):[ ] | \[SQL:[ ] | \[parameters:[ ]
        | \(Background[ ]on | [ |]*+(?:\+[-+]|File[ ]"|Traceback[ ]\()
        | [ |]*+\n[ |]*+(?:The[ ]above|During) | [ |]*+\Z)
    | \Z"""
"""Where a message, or what follows one, goes on after a part that may have many lines."""

_KEPT: Final = re.compile(r"\[SQL: .*\]|\[parameters: \?\]|\(Background on this error at: \S*\)")
"""Lines after a message that have no values, or none any more."""

_END_OF_MESSAGE: Final = re.compile(_GOES_ON, re.VERBOSE)

_DETAIL: Final = re.compile(
    rf"""(?P<label>(?:^|\\n)[ |]{{0,40}}(?:DETAIL|CONTEXT|QUERY|LINE[ ]\d{{1,9}}):[ ])
    .*?(?={_GOES_ON})""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
"""All of it may be values, of many lines."""

_NEAR: Final = re.compile(
    r"""\bnear (?:".{0,500}?"(?=: syntax)|'.{0,500}?'(?= at line))""", re.DOTALL
)
_PARAMETERS: Final = re.compile(
    r"\[parameters: .*?(?:\](?=\n[ |]*(?:\(Background|\n))|\Z)", re.DOTALL
)

_SQL: Final = "[SQL: "
_END_OF_SQL: Final = re.compile(r"\](?=\n\[parameters:|\n\(Background|\s*\Z)")

_ERROR: Final = re.compile(
    rf"""(?<![\w.])(?P<path>(?:{"|".join(sorted(_LIBRARIES))}|django\.db)(?:\.\w{{1,64}}+){{1,6}}+
        (?:\)|:)[ ])
    (?P<message>.*?)(?={_GOES_ON})""",
    re.VERBOSE | re.DOTALL,
)
"""The path of an error's class and its message, up to what goes on in a stack."""


def without_values(text: str) -> str:
    """A log's, a status's or a stack's text without the values of the errors it quotes.

    PostgreSQL's ``DETAIL``, ``CONTEXT`` and ``LINE`` (of psycopg, asyncpg), SQLAlchemy's statement
    and parameters, MongoDB's and MySQL's duplicate keys, Redis's arguments, and all that is quoted
    after the path of a class of theirs. All else stays as it is.
    """
    if not _may_quote(text):
        return text
    if _SQL in text:
        text = "".join(_statements_as_shapes(text))
    text = _PARAMETERS.sub("[parameters: ?]", text)
    if "Command #" in text:
        text = _PIPELINE.sub(_PIPELINE_SAYS, text)
    text = _DETAIL.sub(r"\g<label>?", text)
    text = _QUOTING.sub(r"\1?", text)
    text = _NEAR.sub("near ?", text)
    return _ERROR.sub(_error_masked, text)


def _may_quote(text: str) -> bool:
    # Loops and not any(): this is asked of every text that is exported.
    if ":" in text or "#" in text:
        for mark in _MARKS:
            if mark in text:
                return True
    if "'" in text or '"' in text or "`" in text:
        for mark in _MARKS_OF_QUOTES:
            if mark in text:
                return True
    if "rror" in text:
        for stem in _STEMS:
            if stem in text:
                return True
    return False


def masked_whole(message: str) -> str:
    """An error's message with all its lines, as a stack or a log shows it, without values."""
    text = without_values(message)
    found = _END_OF_MESSAGE.search(text)
    end = len(text) if found is None else found.start()
    rest = [line if _KEPT.fullmatch(line) else _line(line) for line in text[end:].split("\n")]
    return _line(text[:end]) + "\n".join(rest)


def _error_masked(found: re.Match[str]) -> str:
    return found["path"] + _line(found["message"])


def _statements_as_shapes(text: str) -> Iterator[str]:
    at = 0
    while (start := text.find(_SQL, at)) >= 0:
        yield text[at:start]
        begin = start + len(_SQL)
        end = _END_OF_SQL.search(text, begin)
        at = end.start() if end is not None else len(text)
        yield _SQL + shape_of(text[begin:at]).text
    yield text[at:]

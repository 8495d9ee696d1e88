"""What a database's error may tell: pure, from its message.

Databases quote the values they object to: ``Key (email)=(ann@example.org) already exists``,
``invalid input syntax for type integer: "ann"``. So only the first line is kept, and of what it
quotes only names: a quoted word stays if the word before it says that it is one (``relation
"stickers"``).
"""

import re
from collections.abc import Iterator
from typing import Final

from heatshield.sanitize.sql_shape import shape_of

__all__ = ["MAX_MESSAGE", "masked", "status_of", "without_values"]

MAX_MESSAGE: Final = 500
"""Characters of a message."""

_NAMED: Final = (
    "relation|table|column|constraint|index|sequence|schema|database|type|domain|function|operator"
    "|procedure|trigger|view|key|cursor|savepoint|extension|collection|field"
)
"""Words that a name of something follows."""

_QUOTED: Final = re.compile(
    rf"""(?P<name>\b(?:{_NAMED})\s+(?:"[\w$.]{{1,128}}+"|'[\w$.]{{1,128}}+'|`[\w$.]{{1,128}}+`))
    | "(?:[^"\\]|\\.|"")*+(?:"|\Z) | '(?:[^'\\]|\\.|'')*+(?:'|\Z) | `[^`]*+(?:`|\Z)
    | (?P<said>\$\d++) | (?<![\w$])[-+]?\.?\d[\w.]*+""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
"""What may be a value: all that is quoted and all numbers, but for names and ``$1``."""

_VALUE: Final = re.compile(
    r"\bquery argument \$\d++:|\bdup key:|\bKey \(|\bFailing row|\bparameters:|\[SQL:|=\(",
    re.IGNORECASE,
)
"""After these, a message goes on with values that are not quoted."""


def masked(message: str) -> str:
    """An error's message without the data it quotes."""
    line = message.strip().partition("\n")[0][:MAX_MESSAGE]
    found = _VALUE.search(line)
    told = line if found is None else line[: found.end()] + " ?"
    return _QUOTED.sub(lambda match: match["name"] or match["said"] or "?", told)


def status_of(error: BaseException) -> str:
    """The database's own code of an error, e.g. PostgreSQL's ``23505``; empty if it has none."""
    code: object = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return code if isinstance(code, str) else ""


# -- in what others write of them ------------------------------------------------------------------

_MARKS: Final = (
    "DETAIL:", "CONTEXT:", "LINE ", "[SQL:", "[parameters:", "dup key:", "query argument $",
    "Duplicate entry", "invalid input ",
)  # fmt: skip
"""Without one of them in it, no text quotes a database's error with values."""

_QUOTING: Final = re.compile(
    r"(^(?:DETAIL|CONTEXT|LINE \d+): |\[parameters: |\bdup key: |\bDuplicate entry "
    r"|\binvalid input for query argument \$\d+: "
    r"|\binvalid input (?:syntax|value) for [^:\n]{1,80}: ).*$",
    re.MULTILINE,
)
"""Whatever follows on their line are values."""

_SQL: Final = "[SQL: "
_END_OF_SQL: Final = re.compile(r"\](?=\n\[parameters:|\n\(Background|\s*\Z)")


def without_values(text: str) -> str:
    """A log's or a stack's text without the values of the databases' errors it quotes.

    PostgreSQL's ``DETAIL``, ``CONTEXT`` and ``LINE`` (of psycopg, asyncpg), SQLAlchemy's statement
    and parameters, MongoDB's and MySQL's duplicate keys. All else stays as it is.
    """
    for mark in _MARKS:  # a loop and not any(): this is asked of every text that is exported
        if mark in text:
            break
    else:
        return text
    if _SQL in text:
        text = "".join(_statements_as_shapes(text))
    return _QUOTING.sub(r"\1?", text)


def _statements_as_shapes(text: str) -> Iterator[str]:
    at = 0
    while (start := text.find(_SQL, at)) >= 0:
        yield text[at:start]
        begin = start + len(_SQL)
        end = _END_OF_SQL.search(text, begin)
        at = end.start() if end is not None else len(text)
        yield _SQL + shape_of(text[begin:at]).text
    yield text[at:]

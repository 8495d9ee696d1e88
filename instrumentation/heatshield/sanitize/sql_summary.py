"""The verb and the main table of a statement: pure, from its shape.

OpenTelemetry's ``db.query.summary``, and the name of the statement's span. Verbs are known ones,
and digits in names of tables are folded, so that shards don't make names without end.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Summary", "folded", "summary_of"]

MAX_NAME: Final = 64
"""Characters of a table's name."""

MAX_DEPTH: Final = 4
"""Subqueries that are followed inwards."""

_NAME: Final = r"""(?:[\w$#@]++|"[^"]*+"|`[^`]*+`|\[[^\[\]]*+\])"""
_TOKENS: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*|[(),?;]")
_DIGITS: Final = re.compile(r"\d{3,}|(?<=_)\d+")
_QUOTES: Final = str.maketrans("", "", '"`[]')

_VERBS: Final = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "UPSERT", "WITH", "VALUES",
     "TABLE", "CREATE", "DROP", "ALTER", "TRUNCATE", "COPY", "CALL", "EXEC", "EXECUTE",
     "EXPLAIN", "ANALYZE", "VACUUM", "REINDEX", "CLUSTER", "REFRESH", "LOCK", "UNLOCK",
     "COMMENT", "GRANT", "REVOKE", "BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT",
     "RELEASE", "PREPARE", "DEALLOCATE", "DECLARE", "FETCH", "MOVE", "CLOSE", "SET", "RESET",
     "SHOW", "PRAGMA", "USE", "DESCRIBE", "DESC", "LISTEN", "UNLISTEN", "NOTIFY", "DO",
     "CHECKPOINT", "DISCARD", "ATTACH", "DETACH", "LOAD", "OPTIMIZE", "RENAME", "ABORT", "END",
     "IMPORT", "EXPORT", "UNLOAD", "KILL", "HANDLER"}
)  # fmt: skip
_QUERIES: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "VALUES"})
_DEFINITIONS: Final = frozenset({"CREATE", "DROP", "ALTER", "TRUNCATE", "LOCK", "REFRESH"})
_OBJECTS: Final = frozenset(
    {"TABLE", "INDEX", "VIEW", "SEQUENCE", "TRIGGER", "FUNCTION", "PROCEDURE", "SCHEMA",
     "DATABASE", "TYPE", "EXTENSION", "ROLE", "USER", "DOMAIN", "POLICY"}
)  # fmt: skip
_BEFORE_NAME: Final = frozenset(
    {"ONLY", "LATERAL", "OR", "ROLLBACK", "ABORT", "REPLACE", "FAIL", "IGNORE", "LOW_PRIORITY",
     "DELAYED", "HIGH_PRIORITY", "INTO", "IF", "NOT", "EXISTS", "CONCURRENTLY", "TABLE",
     "OVERWRITE", "VIEW", "INDEX"}
)  # fmt: skip
_BEFORE_PART: Final = frozenset({"AS", "MATERIALIZED"})
_OF_WITH: Final = _BEFORE_PART | {"NOT", "RECURSIVE", ","}
_NO_NAME: Final = frozenset(
    {"SELECT", "SET", "VALUES", "WHERE", "FROM", "AS", "ON", "USING", "GROUP", "ORDER", "(",
     ")", ",", "?", ";"}
)  # fmt: skip


class Summary(NamedTuple):
    """Parts may be empty.

    Attributes:
        operation: ``SELECT``, ``CREATE TABLE``.
        collection: the main table.
    """

    operation: str = ""
    collection: str = ""

    @property
    def text(self) -> str:
        """Both."""
        return f"{self.operation} {self.collection}" if self.collection else self.operation


_NOTHING: Final = Summary()


def summary_of(shape: str) -> Summary:
    """The summary of a shape; empty if it begins with no verb of SQL."""
    tokens = _TOKENS.findall(shape)
    at = next((i for i, word in enumerate(tokens) if word != "("), None)
    if at is None or tokens[at].upper() not in _VERBS:
        return _NOTHING
    return _Reading(tokens).summary(at)


def folded(name: str) -> str:
    """A table's or collection's name without its digits: there may be many alike."""
    return _DIGITS.sub("?", name[:MAX_NAME])


class _Reading:
    """A statement's words, in upper case as well.

    Args:
        tokens: names, each with its qualifiers, and punctuation.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._words = [token.upper() for token in tokens]
        self._parts: dict[str, int] = {}
        """Queries that ``WITH`` names, by name: where they begin."""

    def summary(self, at: int) -> Summary:
        verb = self._words[at]
        if verb == "WITH":
            main = self._main_query(at + 1)
            return self.summary(main) if main else Summary(verb)
        if verb == "EXPLAIN":
            inner = self._first(_QUERIES, at)
            return Summary(verb, self._table(inner, self._words[inner], 0) if inner else "")
        if verb in _DEFINITIONS:
            return self._definition(at)
        return Summary(verb, self._table(at, verb, 0))

    def _main_query(self, at: int) -> int | None:
        """Where the query begins that ``WITH`` is for; remembers the parts before it."""
        depth, name = 0, ""
        for i in range(at, len(self._words)):
            word = self._words[i]
            if word == "(":
                if depth == 0 and self._words[i - 1] in _BEFORE_PART:
                    self._parts.setdefault(name, i + 1)
                depth += 1
            elif word == ")":
                depth -= 1
            elif depth == 0:
                if word in _QUERIES:
                    return i
                if word not in _OF_WITH:
                    name = word
        return None

    def _definition(self, at: int) -> Summary:
        verb = self._words[at]
        kind = self._first(_OBJECTS, at)
        if kind is None:
            return Summary(verb, self._name(at + 1))
        operation = f"{verb} {self._words[kind]}"
        if self._words[kind] == "INDEX" and verb == "CREATE":
            on = self._first(frozenset({"ON"}), kind)
            return Summary(operation, self._name(on + 1) if on else "")
        return Summary(operation, self._name(kind + 1))

    def _table(self, at: int, verb: str, depth: int) -> str:
        if verb in {"SELECT", "DELETE"}:
            return self._from(at, depth)
        if verb in {"INSERT", "REPLACE", "MERGE", "UPSERT", "UPDATE", "CALL", "EXEC", "TABLE"}:
            return self._name(at + 1)
        if verb == "COPY":
            inside = self._words[at + 1 : at + 2] == ["("]
            return self._from(at + 2, depth) if inside else self._name(at + 1)
        return ""

    def _from(self, at: int, depth: int) -> str:
        """The table of the first ``FROM`` that belongs to the query which begins here."""
        words, level = self._words, 0
        for i in range(at, len(words) - 1):
            word = words[i]
            if word == "(":
                level += 1
            elif word == ")":
                level -= 1
                if level < 0:
                    break
            if word != "FROM" or level or words[i - 1] == "DISTINCT":
                continue
            inside = i + 1
            while words[inside] == "(" and inside + 1 < len(words):
                inside += 1
            begins = self._parts.pop(words[inside], None)
            if begins is None and words[inside] != "SELECT":
                return self._name(inside)
            if depth < MAX_DEPTH:
                return self._from(begins or inside, depth + 1)
        return ""

    def _first(self, wanted: frozenset[str], at: int) -> int | None:
        return next((i for i in range(at, len(self._words)) if self._words[i] in wanted), None)

    def _name(self, at: int) -> str:
        while at < len(self._words) and self._words[at] in _BEFORE_NAME:
            at += 1
        if at >= len(self._words) or self._words[at] in _NO_NAME:
            return ""
        return folded(self._tokens[at].translate(_QUOTES))

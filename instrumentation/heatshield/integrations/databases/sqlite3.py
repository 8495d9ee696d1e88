"""Python's own sqlite3: a span a statement, with the rows it reads or writes.

``sqlite3.Connection`` and ``Cursor`` are C types whose methods can't be replaced, and a proxy in
their place would fail ``isinstance`` and every function in C that wants a connection (``backup``,
``sqlite3.Row``). So ``sqlite3.connect`` makes connections of a subclass. A ``factory`` that the
service gives is kept, with ours behind it: its methods still run first and its ``super()`` leads to
ours.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from typing import Any, Final, Self

from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "sqlite3"

_STATEMENTS: Final = Statements(NAME, OtelContrib("sqlite3", "SQLite3Instrumentor"))
_PATCHES: Final = Patches()
_SYSTEM: Final = "sqlite"
_WHOSE: Final[Mapping[str, str]] = {"db.system.name": _SYSTEM}

_FACTORY_AT: Final = 5
"""Where ``connect`` takes its factory if it is no keyword."""

_ASIDE: Final = "aiosqlite"
"""It runs statements in a thread that knows of no request: its spans would be nobody's."""


def install(_services: Services) -> None:
    """Have connections that are opened from now on traced; replaces an earlier patch."""
    _PATCHES.undo()
    for module in (sqlite3, sqlite3.dbapi2):
        _PATCHES.wrap(module, "connect", _connecting)


def remove() -> None:
    """Take the patch out again; connections that are open stay as they are."""
    _PATCHES.undo()


def _connecting(connect: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(connect)
    def connected(*args: Any, **kwargs: Any) -> Any:
        if _ASIDE in sys.modules and _called_by(_ASIDE):
            return connect(*args, **kwargs)
        if len(args) > _FACTORY_AT:
            factory = _traced_connection(args[_FACTORY_AT])
            args = (*args[:_FACTORY_AT], factory, *args[_FACTORY_AT + 1 :])
        else:
            kwargs["factory"] = _traced_connection(kwargs.get("factory", sqlite3.Connection))
        return connect(*args, **kwargs)

    return connected


def _called_by(package: str) -> bool:
    caller = str(sys._getframe(2).f_globals.get("__name__", ""))  # noqa: SLF001  # the cheap way
    return caller.partition(".")[0] == package


class _Cursor(sqlite3.Cursor):
    """A cursor that knows the statement whose rows it reads."""

    __slots__ = ("_statement",)

    _statement: Statement | None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        # Not in __init__, which subclasses pass by when they call sqlite3.Cursor's.
        made = super().__new__(cls)
        made._statement = None
        return made

    # -- statements ------------------------------------------------------------------------------

    def execute(self, *args: Any) -> Any:
        return self._run(super().execute, args)

    def executemany(self, *args: Any) -> Any:
        return self._run(super().executemany, args, _length(args[1]) if len(args) > 1 else 0)

    def executescript(self, *args: Any) -> Any:
        return self._run(super().executescript, args)

    def _run(self, execute: Callable[..., Any], args: tuple[Any, ...], batch: int = 0) -> Any:
        self._let_go()
        statement = _STATEMENTS.open(args[0], _WHOSE, system=_SYSTEM, batch=batch) if args else None
        if statement is None:
            return execute(*args)
        try:
            result = execute(*args)
        except BaseException as error:
            statement.fail(error)
            raise
        if self.description is None:
            statement.end(max(0, self.rowcount))
        else:
            statement.pause()
            self._statement = statement
        return result

    def _let_go(self) -> None:
        """Nothing more is read of the statement before."""
        statement, self._statement = self._statement, None
        if statement is not None:
            statement.end()

    def close(self) -> None:
        self._let_go()
        super().close()

    # -- rows ------------------------------------------------------------------------------------

    def fetchone(self) -> Any:
        """The first row ends the statement: often nobody asks for a second, nor closes."""
        statement = self._statement
        if statement is None:
            return super().fetchone()
        row = self._reading(super().fetchone, statement)
        statement.end(row is not None)
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        statement = self._statement
        if statement is None:
            return super().fetchmany(*args, **kwargs)
        rows = self._reading(super().fetchmany, statement, *args, **kwargs)
        wanted = args[0] if args else kwargs.get("size", self.arraysize)
        if len(rows) < wanted:
            statement.end(len(rows))
        else:
            statement.pause(len(rows))
        return rows

    def fetchall(self) -> Any:
        statement = self._statement
        if statement is None:
            return super().fetchall()
        rows = self._reading(super().fetchall, statement)
        statement.end(len(rows))
        return rows

    def _reading(
        self, fetch: Callable[..., Any], statement: Statement, *args: Any, **kwargs: Any
    ) -> Any:
        statement.resume()
        try:
            return fetch(*args, **kwargs)
        except BaseException as error:
            statement.fail(error)
            raise

    def __next__(self) -> Any:
        statement = self._statement
        if statement is None:
            return _NEXT(self)
        try:
            row = _NEXT(self)
        except StopIteration:
            statement.end()
            raise
        except BaseException as error:
            statement.fail(error)
            raise
        if statement.span is None:
            statement.read(1)
        else:
            statement.rows += 1  # what a call would do, for every row
        return row


_NEXT: Final = sqlite3.Cursor.__next__


class _Connection(sqlite3.Connection):
    """A connection whose cursors are traced."""

    __slots__ = ()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        return super().cursor(_traced_cursor(factory))

    # These make a plain cursor, whatever ``cursor`` makes.

    def execute(self, *args: Any) -> Any:
        return super().cursor(_Cursor).execute(*args)

    def executemany(self, *args: Any) -> Any:
        return super().cursor(_Cursor).executemany(*args)

    def executescript(self, *args: Any) -> Any:
        return super().cursor(_Cursor).executescript(*args)


for _class in (_Connection, _Cursor):  # what a service sees of them
    _class.__name__ = _class.__qualname__ = _class.__name__.removeprefix("_")
    _class.__module__ = "sqlite3"


def _traced_connection(factory: Any) -> Any:
    if factory is sqlite3.Connection:
        return _Connection
    return _with(factory, _Connection) if _is_of(factory, sqlite3.Connection) else factory


def _traced_cursor(factory: Any) -> Any:
    if factory is sqlite3.Cursor:
        return _Cursor
    return _with(factory, _Cursor) if _is_of(factory, sqlite3.Cursor) else factory


def _is_of(factory: Any, base: type) -> bool:
    return isinstance(factory, type) and issubclass(factory, base)


@lru_cache(256)
def _with(factory: Any, ours: type) -> Any:
    """``factory`` with our class behind its own methods; as it is where that can't be."""
    if issubclass(factory, ours):
        return factory
    names = {
        "__module__": factory.__module__,
        "__qualname__": factory.__qualname__,
        "__slots__": (),
    }
    try:
        return type(factory)(factory.__name__, (factory, ours), names)
    except TypeError:  # e.g. a layout of its own
        return factory


def _length(values: Iterable[Any]) -> int:
    return len(values) if isinstance(values, list | tuple) else 0

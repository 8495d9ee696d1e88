"""Python's own sqlite3: a span a statement, with the rows it reads or writes.

``sqlite3.Connection`` and ``Cursor`` are C types whose methods can't be replaced, and a proxy in
their place would fail ``isinstance`` and every function in C that wants a connection (``backup``,
``sqlite3.Row``). So ``sqlite3.connect`` makes connections of a subclass. A ``factory`` that the
service gives stays, with ours behind it: its methods still run first and its ``super()`` leads to
ours.
"""

import sqlite3
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from time import perf_counter_ns
from typing import Final, Self, TypeGuard, TypeVar, cast

from heatshield.integrations.databases.sql_statements import Statement, Statements
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "sqlite3"

_STATEMENTS: Final = Statements(NAME, OtelContrib("sqlite3", "SQLite3Instrumentor"))
_PATCHES: Final = Patches()
_SYSTEM: Final = "sqlite"
_DATABASE: Final[Mapping[str, str]] = {"db.system.name": _SYSTEM}

_FACTORY_AT: Final = 5
"""Where ``connect`` takes its factory if it is no keyword."""

_QUOTING: Final = "SELECT QUOTE(?)"
_QUOTER: Final = "django.db.backends.sqlite3.operations"
"""With ``DEBUG``, Django has SQLite quote the parameters of each statement for its own log of them.
That is no statement of the service's."""

_ASIDE: Final = "aiosqlite"
"""It runs statements in a thread that knows of no request, so its spans would have no user."""

R = TypeVar("R")


def install(_services: Services) -> None:
    """Trace connections that are opened from now on; replaces an earlier patch."""
    _PATCHES.undo()
    for module in (sqlite3, sqlite3.dbapi2):
        _PATCHES.wrap(module, "connect", _connecting)


def remove() -> None:
    """Take the patch out again; connections that are open stay as they are."""
    _PATCHES.undo()


def _connecting(connect: Original) -> Original:
    @wraps(connect)
    def connected(*args: object, **kwargs: object) -> object:
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


def _is_quoting(sql: object) -> bool:
    """Whether Django asks for this statement on behalf of its log; three frames up."""
    return (
        isinstance(sql, str)
        and sql.startswith(_QUOTING)
        and sys._getframe(3).f_globals.get("__name__") == _QUOTER  # noqa: SLF001  # as above
    )


class _Cursor(sqlite3.Cursor):
    """A cursor that knows the statement whose rows it reads."""

    __slots__ = ("_statement",)

    _statement: Statement | None

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        # Not in __init__, which subclasses pass by when they call sqlite3.Cursor's.
        made = super().__new__(cls)
        made._statement = None
        return made

    # -- statements ------------------------------------------------------------------------------

    def execute(self, *args: object) -> Self:
        return self._run(super().execute, args)

    def executemany(self, *args: object) -> Self:
        return self._run(super().executemany, args, _length(args[1]) if len(args) > 1 else 0)

    def executescript(self, *args: object) -> sqlite3.Cursor:
        return self._run(super().executescript, args)

    def _run(self, execute: Callable[..., R], args: tuple[object, ...], batch: int = 0) -> R:
        self._let_go()
        if not args or _is_quoting(args[0]):
            return execute(*args)
        statement = _STATEMENTS.open(args[0], _DATABASE, system=_SYSTEM, batch=batch)
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
        """End the earlier statement: no more of it is read."""
        statement, self._statement = self._statement, None
        if statement is not None:
            statement.end()

    def close(self) -> None:
        self._let_go()
        super().close()

    # -- rows ------------------------------------------------------------------------------------

    def fetchone(self) -> object:
        """Read a row; the first ends the statement: many services neither read on nor close."""
        statement = self._statement
        if statement is None:
            return _FETCH_ONE(self)
        if statement.span is not None:
            row = self._reading(_FETCH_ONE, statement, self)
            statement.end(row is not None)
            return row
        row = _FETCH_ONE(self)
        if row is None:
            self._let_go()
        else:
            statement.read(1)
        return row

    def fetchmany(self, *args: int | None, **kwargs: int | None) -> list[object]:
        statement = self._statement
        if statement is None:
            return _FETCH_MANY(self, *args, **kwargs)
        if statement.span is None:
            rows = _FETCH_MANY(self, *args, **kwargs)
            statement.read(len(rows))
            return rows
        began_ns = perf_counter_ns()
        try:
            rows = _FETCH_MANY(self, *args, **kwargs)
        except BaseException as error:
            statement.fail(error)
            raise
        statement.took(perf_counter_ns() - began_ns, len(rows))
        wanted = args[0] if args else kwargs.get("size", self.arraysize)
        if wanted is not None and len(rows) < wanted:
            statement.end()
        return rows

    def fetchall(self) -> list[object]:
        statement = self._statement
        if statement is None:
            return super().fetchall()
        rows = self._reading(super().fetchall, statement)
        statement.end(len(rows))
        return rows

    def _reading(
        self, fetch: Callable[..., R], statement: Statement, *args: object, **kwargs: object
    ) -> R:
        statement.resume()
        try:
            return fetch(*args, **kwargs)
        except BaseException as error:
            statement.fail(error)
            raise

    def __next__(self) -> object:
        statement = self._statement
        if statement is None:
            return _NEXT(self)
        try:
            row = _NEXT(self)
        except StopIteration:
            self._let_go()
            raise
        except BaseException as error:
            statement.fail(error)
            raise
        if statement.span is None:
            statement.read(1)
        else:
            statement.rows += 1  # as a call would do, but cheaper for every row
        return row


# Called as they are, for super() takes as long as the reading of a row.
_NEXT: Final = sqlite3.Cursor.__next__
_FETCH_ONE: Final = sqlite3.Cursor.fetchone
_FETCH_MANY: Final = sqlite3.Cursor.fetchmany


class _Connection(sqlite3.Connection):
    """A connection whose cursors are traced."""

    __slots__ = ()

    def cursor(  # type: ignore[override]  # any object, of which sqlite3 complains itself
        self, factory: object = sqlite3.Cursor
    ) -> sqlite3.Cursor:
        traced = cast("Callable[[sqlite3.Connection], sqlite3.Cursor]", _traced_cursor(factory))
        return super().cursor(traced)

    # These make a plain cursor, whatever ``cursor`` makes.

    def execute(self, *args: object) -> sqlite3.Cursor:
        return super().cursor(_Cursor).execute(*args)

    def executemany(self, *args: object) -> sqlite3.Cursor:
        return super().cursor(_Cursor).executemany(*args)

    def executescript(self, *args: object) -> sqlite3.Cursor:
        return super().cursor(_Cursor).executescript(*args)


for _class in (_Connection, _Cursor):  # what a service sees of them
    _class.__name__ = _class.__qualname__ = _class.__name__.removeprefix("_")
    _class.__module__ = "sqlite3"


def _traced_connection(factory: object) -> object:
    if factory is sqlite3.Connection:
        return _Connection
    return _with(factory, _Connection) if _is_of(factory, sqlite3.Connection) else factory


def _traced_cursor(factory: object) -> object:
    if factory is sqlite3.Cursor:
        return _Cursor
    return _with(factory, _Cursor) if _is_of(factory, sqlite3.Cursor) else factory


def _is_of(factory: object, base: type) -> TypeGuard[type]:
    return isinstance(factory, type) and issubclass(factory, base)


def _with(factory: type, ours: type) -> type:
    """``factory`` with our class behind its own methods; as it is where that can't be."""
    try:
        return factory if ours in factory.__mro__ else _joined(factory, ours)
    except Exception:  # noqa: BLE001  # a layout of its own; or its code, which refuses subclasses
        return factory


@lru_cache(256)
def _joined(factory: type, ours: type) -> type:
    names: dict[str, object] = {
        "__module__": factory.__module__,
        "__qualname__": factory.__qualname__,
        "__slots__": (),
    }
    metaclass: Callable[[str, tuple[type, ...], dict[str, object]], type] = type(factory)
    return metaclass(factory.__name__, (factory, ours), names)


def _length(values: object) -> int:
    return len(values) if isinstance(values, list | tuple) else 0

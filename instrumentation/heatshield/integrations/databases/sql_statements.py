"""The span of a statement, and the rows that are read through it.

A statement that returns rows goes on after the library's ``execute`` returns: SQLite steps to the
first row only, server-side cursors fetch page by page. A span can't be written to once it has
ended, and rows charged to a later span would hide which statement read them. So a span whose rows
are still to come is *paused*: it ends when the last row has been read, or the cursor is closed,
used anew or gone. Its duration is the time spent in the library, without the time that the service
takes between two rows, so no second is charged twice. Rows that are read one at a time are counted,
not timed: timing would cost more than the row.

Rows that drivers buffer (psycopg, asyncpg) are known when ``execute`` returns; there nothing is
paused. Rows of a statement that has ended already go to the current span: they are charged to the
same user and call.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter_ns
from typing import Final
from weakref import ReferenceType, ref

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import Span, SpanKind, get_current_span

from heatshield.counters import COUNTERS, fail_open
from heatshield.fork_hooks import in_child
from heatshield.integrations.otel_contrib import OtelContrib
from heatshield.integrations.patches import AsyncWrapper, Wrapper, around, around_async
from heatshield.names import COST_ROWS
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.sanitize.sql_errors import status_of
from heatshield.sanitize.sql_shape import MAX_STATEMENT, shape_of
from heatshield.tracing.failure import fail_without_stack, mark_refusal, text_of
from heatshield.tracing.provider import PROVIDER
from heatshield.tracing.span import Span as OurSpan
from heatshield.tracing.stamp import add_cost
from heatshield.tracing.values import Attributes, Plain

__all__ = ["Statement", "Statements", "covered"]

_COVERING: Final[ContextVar["ReferenceType[Statement] | None"]] = ContextVar(
    "heatshield-statement", default=None
)
"""The statement that runs in this context, of a library on top of drivers."""

_ABANDONED: Final[deque[tuple[Span, int, int]]] = deque()
"""Spans whose cursors are gone, their rows and durations. The garbage collector may come at any
moment, also while a lock is held that ending a span would wait for; so they are ended later."""

_LATE: Final[deque[tuple[Span, int]]] = deque()
"""Rows that such cursors had read after their spans ended, and the spans that read them."""

in_child(_ABANDONED.clear)  # the parent ends them
in_child(_LATE.clear)


LATE_ROWS: Final = 64
"""Rows that are added to a cost at once: for each row by itself it takes longer than reading it."""


class Statement:
    """One statement; it runs as soon as it is made.

    Args:
        span: ``None`` where another instrumentation makes the span: then rows alone are counted.

    Attributes:
        span: ``None`` once it has ended.
        rows: read or written so far.
        late: rows that were read since it ended, and are not added to their reader's cost yet.
        running: whether the library works on it now.
    """

    __slots__ = (
        "__weakref__", "_began_ns", "_busy_ns", "_reader", "late", "rows", "running", "span",
    )  # fmt: skip

    def __init__(self, span: Span | None) -> None:
        self.span = span
        self.rows = self.late = self._busy_ns = 0
        self.running = True
        self._reader: Span | None = None
        self._began_ns = perf_counter_ns()

    def pause(self, rows: int = 0) -> None:
        """The library has returned; more rows may be read."""
        if self.running:
            self._busy_ns += perf_counter_ns() - self._began_ns
            self.running = False
        if rows:
            self.read(rows)

    def resume(self) -> None:
        """The library reads on."""
        self._began_ns = perf_counter_ns()
        self.running = True

    def took(self, busy_ns: int, rows: int) -> None:
        """Rows were read, in so much time; :meth:`resume` and :meth:`pause` at once."""
        self._busy_ns += busy_ns
        self.rows += rows

    def read(self, rows: int) -> None:
        """Rows were read, or written."""
        if self.span is not None:
            self.rows += rows
        else:
            if not self.late:
                self._find_reader()
            self.late += rows
            if self.late >= LATE_ROWS:
                self._add_late()

    def _find_reader(self) -> None:
        self._reader = reader = get_current_span()  # whoever reads on may be another request
        if isinstance(reader, OurSpan):
            reader.before_end(self._add_late)

    def _add_late(self) -> None:
        late, self.late = self.late, 0
        reader, self._reader = self._reader, None
        if late:
            add_cost(rows=late, span=reader)

    @fail_open("statement", None)
    def end(self, rows: int = 0) -> None:
        """All its rows are known; only the first end counts."""
        span, self.span = self.span, None
        was_running, self.running = self.running, False
        if span is None:
            if rows:
                self.read(rows)
            self._add_late()
        elif was_running and not self._busy_ns:
            _end(span, self.rows + rows, None)
        else:
            if was_running:
                self._busy_ns += perf_counter_ns() - self._began_ns
            _end(span, self.rows + rows, self._busy_ns)

    @fail_open("statement", None)
    def fail(self, error: BaseException) -> None:
        """End it with an error; what ends the task or the program is no failure of it."""
        try:
            span = self.span
            if span is None or not isinstance(error, Exception) or mark_refusal(span, error):
                return
            kind = type(error)
            name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            self.mark_failed(name, text_of(error), status_of(error))
        finally:
            self.end()

    def mark_failed(self, name: str, message: str, status: str) -> None:
        """Mark its span as failed.

        Args:
            name: of the error's class.
            message: as it came.
            status: the database's own code, or empty.
        """
        span = self.span
        if span is None:
            return
        message = SANITIZER.database_error(message)
        if status:
            span.set_attribute("db.response.status_code", status)
        fail_without_stack(span, name, message)

    def __del__(self) -> None:
        """Its cursor is gone, so no more rows will be read.

        If it still ran, it was given up at an unknown time, and no guessed time is charged.
        """
        if self.span is not None:
            _ABANDONED.append((self.span, self.rows, self._busy_ns))
        elif self.late and self._reader is not None:
            _LATE.append((self._reader, self.late))


def _end(span: Span, rows: int, busy_ns: int | None) -> None:
    if rows > 0:
        span.set_attribute(COST_ROWS, rows)
    start = getattr(span, "start_time", None) if busy_ns is not None else None
    span.end(start + busy_ns if start and busy_ns is not None else None)


def _end_abandoned() -> None:
    while _ABANDONED:
        try:
            _end(*_ABANDONED.popleft())
        except IndexError:
            return  # another thread was faster
    while _LATE:
        try:
            reader, rows = _LATE.popleft()
        except IndexError:
            return
        add_cost(rows=rows, span=reader)


def covered() -> bool:
    """Whether a driver runs here for a statement that has its span already."""
    covering = _COVERING.get()
    if covering is None:
        return False
    statement = covering()
    return statement is not None and statement.running


Begin = Callable[..., Statement | None]
Rows = Callable[..., int | None]
Args = tuple[object, ...]
Kwargs = dict[str, object]
_Execution = tuple[Statement, object, Args]
"""A statement, with the object and the arguments of the method that executes it."""


class Statements:
    """Opens the spans of one library.

    Args:
        name: of the integration.
        contrib: OpenTelemetry's instrumentation of the same library.
    """

    def __init__(self, name: str, contrib: OtelContrib) -> None:
        self._name = name
        self._contrib = contrib
        self._tracer = PROVIDER.get_tracer(f"heatshield.{name}")

    def open(
        self, statement: object, connection: Mapping[str, Plain], *, system: str, batch: int = 0
    ) -> Statement | None:
        """Begin a statement; ``None`` if it is not traced here.

        Args:
            statement: SQL, as text or bytes.
            connection: the attributes of its connection.
            system: the database, as :func:`~heatshield.sanitize.sql_shape.shape_of` knows it.
            batch: how often it is executed at once, if more than once and known.
        """
        try:
            if covered():
                return None
            context = get_current()
            if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or self._contrib.active:
                return None
            text = statement if isinstance(statement, str) else _text(statement)
            shape = shape_of(text, system)
            attributes: Attributes = {**connection, **shape.attributes}
            if not SANITIZER.redacts:
                attributes["db.query.text"] = text[:MAX_STATEMENT]
            if batch > 1:
                attributes["db.operation.batch.size"] = batch
            return self._opened(shape.summary or system, attributes, context)
        except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
            COUNTERS.error(self._name)
            return None

    def open_command(self, name: str, attributes: Attributes) -> Statement | None:
        """Begin a command that is not SQL; ``None`` if it is not traced here."""
        try:
            context = get_current()
            if context.get(_SUPPRESS_INSTRUMENTATION_KEY) or self._contrib.active:
                return None
            return self._opened(name, attributes, context)
        except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
            COUNTERS.error(self._name)
            return None

    def _opened(self, name: str, attributes: Attributes, context: Context) -> Statement:
        if _ABANDONED or _LATE:
            _end_abandoned()
        return Statement(self._tracer.open(name, SpanKind.CLIENT, attributes, context))

    def cover(
        self, statement: object, connection: Mapping[str, Plain], *, system: str, batch: int = 0
    ) -> Statement | None:
        """Begin a statement as :meth:`open` does, and leave out the drivers' spans while it runs.

        Where OpenTelemetry's instrumentation makes the span, the statement only covers.
        """
        if self._contrib.active and not covered():
            found: Statement | None = Statement(None)
        else:
            found = self.open(statement, connection, system=system, batch=batch)
        if found is not None:
            _COVERING.set(ref(found))
        return found

    # -- around a library's functions ------------------------------------------------------------

    def begun(
        self, begin: Begin, /, instance: object, *args: object, **kwargs: object
    ) -> Statement | None:
        """What ``begin`` opens for a call of a library; ``None`` if it can't.

        Arguments that don't fit, and what the library says of its own objects (a cursor is closed,
        say), are the service's mistakes, which the library will tell it of.
        """
        try:
            return begin(instance, *args, **kwargs)
        except TypeError:
            return None
        except Exception as error:  # noqa: BLE001  # nothing of heatshield may fail a service
            if type(error).__module__.partition(".")[0] != self._name:
                COUNTERS.error(self._name)
            return None

    @contextmanager
    def reading(self, statement: Statement) -> Iterator[None]:
        """End the statement with the block."""
        try:
            yield
        except BaseException as error:
            statement.fail(error)
            raise
        statement.end()

    def around(self, begin: Begin, rows: Rows) -> Wrapper:
        """A patch of a method that executes a statement.

        Args:
            begin: opens the statement; takes the method's arguments.
            rows: how many it read or wrote, or ``None`` if more may come; takes the statement,
                the result and the method's arguments.
        """
        return around(self._beginning(begin), self._ending(rows), self._fail, name=self._name)

    def around_async(self, begin: Begin, rows: Rows) -> AsyncWrapper:
        """:meth:`around` for a coroutine method."""
        return around_async(self._beginning(begin), self._ending(rows), self._fail, name=self._name)

    def _beginning(self, begin: Begin) -> Callable[[object, Args, Kwargs], _Execution | None]:
        def beginning(instance: object, args: Args, kwargs: Kwargs) -> _Execution | None:
            statement = begin(instance, *args, **kwargs)
            return None if statement is None else (statement, instance, args)

        return beginning

    def _ending(self, rows: Rows) -> Callable[[_Execution, object], None]:
        def ending(execution: _Execution, result: object) -> None:
            statement, instance, args = execution
            count: int | None = 0
            try:
                count = rows(statement, result, instance, *args)
            except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
                COUNTERS.error(self._name)
            if count is None:
                statement.pause()
            else:
                statement.end(count)

        return ending

    def _fail(self, execution: _Execution, error: BaseException) -> None:
        execution[0].fail(error)


def _text(statement: object) -> str:
    if isinstance(statement, bytes | bytearray | memoryview):
        return bytes(statement[: MAX_STATEMENT * 4]).decode("utf-8", "replace")
    return str(statement)

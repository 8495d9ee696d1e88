"""What the integrations of logging libraries share: which records are exported, and how many.

A record is exported if it reached a handler or sink of the service, so the service's own levels and
filters hold it back here too; if its level is ``log_level`` or above; and as long as its call site
keeps to ``log_rate``.
"""

import os
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from time import monotonic
from typing import Final

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from heatshield.context.attachment import reset
from heatshield.context.request import request_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.export.log_limits import LogLimits, Site, Suppressed
from heatshield.export.logs import LogEvent, suppression
from heatshield.export.severity import LEVELS
from heatshield.fork_hooks import expects_fork, in_child
from heatshield.integrations.services import Services
from heatshield.native import NativeThread
from heatshield.process.wakeup import Wakeup

__all__ = ["IDS", "SUPPRESSED_CAUSE", "TAKING", "LogTee", "current_ids", "ids_text"]

NEVER_EXPORTED: Final = ("heatshield", "opentelemetry")
"""Loggers of exporting, with all below them: each of their records would cause another."""

SUPPRESSED_CAUSE: Final = "log_rate_limit"
"""The cause under which suppressed records are counted as dropped."""

FORK_WAITS_S: Final = 0.2
"""How long a fork waits for a thread that is just exporting what was suppressed."""

TAKING: Final[ContextVar[bool]] = ContextVar("heatshield-taking", default=False)
"""Whether a record is being read for the export.

Values of the service's are turned into text then, and some of them log while they are. Without
heatshield they would not have been asked, so what they log is neither written nor exported; else a
value that logs itself would do so for ever."""


class _Teller:
    """A thread that waits, and then exports what was suppressed meanwhile, unless it is cancelled.

    Args:
        seconds: that it waits.
        tell: what it does then.
    """

    def __init__(self, seconds: float, tell: Callable[[], object]) -> None:
        self._seconds = seconds
        self._tell = tell
        self._cancelled, self._gone = Wakeup(), Wakeup()
        self._thread = NativeThread(self._run, "heatshield-suppressed")

    def start(self) -> None:
        """Begin to wait.

        Raises:
            RuntimeError: when there can be no more threads.
        """
        self._thread.start()

    def cancel(self) -> None:
        """Do nothing any more."""
        self._cancelled.set()

    def join(self, most_s: float) -> None:
        """Wait until it is gone, at most so long."""
        if self._gone.wait(most_s):
            self._thread.join()  # it has nothing left to do

    def _run(self) -> None:
        if not self._cancelled.wait(self._seconds):
            self._tell()
        self._gone.set()


_TEES: Final[weakref.WeakSet["LogTee"]] = weakref.WeakSet()


class LogTee:
    """Decides which records to export, and exports them. Starts a thread only for suppressions.

    Args:
        services: of the runtime.
        name: of the integration, under which its errors are counted.
    """

    def __init__(self, services: Services, name: str) -> None:
        settings = services.settings
        self.level = LEVELS[settings.log_level]
        self.console_ids = settings.console_ids
        self._name = name
        self.log = services.log
        self._limits = LogLimits(settings.log_rate)
        self._teller: _Teller | None = None
        _TEES.add(self)

    def admit(self, logger: str, file: str, line: int, function: str, level: int) -> Site | None:
        """The call site, if it may send this record; ``None`` counts a suppressed one."""
        if level < self.level:
            return None
        site = self._limits.admit(logger, file, line, function, level, monotonic())
        if site is None:
            if self._teller is None:
                self._tell_later()
        elif logger.startswith(NEVER_EXPORTED) and logger.partition(".")[0] in NEVER_EXPORTED:
            return None
        return site

    def send(self, make: Callable[..., LogEvent | None], *arguments: object) -> None:
        """Export what ``make`` makes; never raises, whatever a record holds."""
        taking = TAKING.set(True)
        try:
            event = make(self, *arguments)
            if event is not None:
                self.log(event)
        except Exception:  # noqa: BLE001  # the service's objects are in there
            COUNTERS.error(self._name)
        finally:
            reset(TAKING, taking)

    def close(self) -> None:
        """Export what was suppressed, and end."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.cancel()
        self._tell(self._limits.end())

    def before_fork(self) -> None:
        """Have no thread while the process forks."""
        teller, self._teller = self._teller, None
        if teller is not None:
            teller.cancel()
            teller.join(FORK_WAITS_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._limits.suppressing and self._teller is None:
            self._tell_later()

    def after_fork(self) -> None:
        """Forget what was suppressed, in a child process: the parent exports that."""
        self._limits.reset()
        self._teller = None

    def _tell_later(self) -> None:
        if expects_fork():
            return
        try:
            teller = _Teller(self._limits.period_s, self._on_time)
            teller.start()
            self._teller = teller
        except RuntimeError:  # no more threads; the next suppressed record tries again
            self._teller = None

    def _on_time(self) -> None:
        self._teller = None
        self._tell(self._limits.ended(monotonic()))
        if self._limits.suppressing and self._teller is None:
            self._tell_later()

    @fail_open("log limits", None)
    def _tell(self, suppressed: list[Suppressed]) -> None:
        for site, records in suppressed:
            COUNTERS.drop(SUPPRESSED_CAUSE, records)
            self.log(suppression(site, records))


def _each(step: Callable[[LogTee], None]) -> Callable[[], None]:
    @fail_open("log limits", None)
    def steps() -> None:
        for tee in list(_TEES):
            step(tee)

    return steps


os.register_at_fork(
    before=_each(LogTee.before_fork), after_in_parent=_each(LogTee.after_fork_in_parent)
)
in_child(_each(LogTee.after_fork))


IDS: Final = ("trace_id", "span_id", "user")
"""What ``console_ids`` adds, in this order."""


def current_ids() -> dict[str, str]:
    """``trace_id``, ``span_id`` and ``user`` of this context, those that there are."""
    ids = {}
    span = get_current_span().get_span_context()
    if span.is_valid:
        ids = {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}
    request = request_in()
    if request is not None and request.user is not None:
        ids["user"] = request.user
    return ids


def ids_text(ids: Mapping[str, str]) -> str:
    """Ids as they are put behind a line."""
    return "".join(f" {name}={value}" for name, value in ids.items())

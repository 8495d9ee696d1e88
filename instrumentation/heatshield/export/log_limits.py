"""How many records each call site may send: pure, the time is an argument.

A loop that logs must not push out what everything else has to say. So of each call site the first
records of a second are sent, the rest are counted, and the count is sent when the second is over.
"""

from typing import Final, NamedTuple

from heatshield.export.severity import severity_of
from heatshield.fork_locks import reentrant_lock

__all__ = ["MAX_SITES", "LogLimits", "Site", "Suppressed"]

MAX_SITES: Final = 4_096
"""Call sites with a count of their own: more than a large service has. The rest share one."""

PERIOD_S: Final = 1.0
MAX_PERIOD_S: Final = 3_600.0
"""Seconds that records are counted for; the longer, the fewer than one a second are allowed."""

_FOREVER: Final = float("inf")


class Site:
    """Where records come from: what is the same for all of them, and how many more may be sent.

    Records of different levels from one line count apart: an error is not suppressed because the
    same line, in a wrapper around the logger, wrote many debug records before.

    Args:
        logger: its name.
        file: path of the code.
        line: in that file; 0 if unknown.
        function: around that line.
        level: a number of :mod:`logging`.

    Attributes:
        origin: where in the code, as attributes by OpenTelemetry's conventions. Shared by all
            records of the site, not to be changed.
        severity: OpenTelemetry's number of the level.
        severity_text: its short name.
        ends_s: when the period is over.
        left: records that may still be sent in it.
        suppressed: records that were not.
    """

    __slots__ = (
        "ends_s", "file", "left", "line", "logger", "origin", "severity", "severity_text",
        "suppressed",
    )  # fmt: skip

    def __init__(self, logger: str, file: str, line: int, function: str, level: int) -> None:
        self.logger = logger
        self.file = file
        self.line = line
        self.origin: dict[str, object] = {
            "code.file.path": file,
            "code.line.number": line,
            "code.function.name": function,
        }
        self.severity, self.severity_text = severity_of(level)
        self.ends_s = _FOREVER
        self.left = 0
        self.suppressed = 0


class Suppressed(NamedTuple):
    """What was not sent of a call site; of all that share a count if it is ``None``."""

    site: Site | None
    records: int


class LogLimits:
    """Counts the records of each call site.

    Threads may share it. Admitting takes no lock, so under threads a few records more may pass;
    what is suppressed is counted exactly.

    Args:
        per_second: records per second and call site; 0 admits everything.
    """

    def __init__(self, per_second: float) -> None:
        self._unlimited = per_second <= 0
        self.period_s = PERIOD_S
        if 0 < per_second < 1 / PERIOD_S:
            self.period_s = min(1 / per_second, MAX_PERIOD_S)
        self._allowed = max(1, round(per_second * self.period_s))
        self._lock = reentrant_lock()  # a signal handler may log while it is held
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a child process must."""
        self._sites: dict[tuple[str, str, int, int], Site] = {}
        self._others = Site("", "", 0, "", 0)
        self._others.ends_s = 0.0
        self._told_later: list[Suppressed] = []
        self._look_again_s = 0.0

    def admit(
        self, logger: str, file: str, line: int, function: str, level: int, now_s: float
    ) -> Site | None:
        """The call site, if it may send a record at ``now_s`` of a monotonic clock."""
        site = self._sites.get((logger, file, line, level))
        if site is None:
            site = self._new(logger, file, line, function, level, now_s)
            if site is None:
                return self._admit_other(Site(logger, file, line, function, level), now_s)
        if now_s >= site.ends_s:
            self._begin(site, now_s)
        if site.left > 0:
            site.left -= 1
            return site
        return self._admit_again(site)

    def ended(self, now_s: float) -> list[Suppressed]:
        """What was suppressed in periods that are over; each is told once."""
        with self._lock:
            for site in (*self._sites.values(), self._others):
                if site.suppressed and now_s >= site.ends_s:
                    self._end(site)
            told, self._told_later = self._told_later, []
            return told

    def end(self) -> list[Suppressed]:
        """What was suppressed and not told yet, whether its period is over or not."""
        return self.ended(_FOREVER)

    @property
    def suppressing(self) -> bool:
        """Whether there is something that :meth:`ended` has to tell, now or later."""
        with self._lock:
            sites = (*self._sites.values(), self._others)
            return bool(self._told_later) or any(site.suppressed for site in sites)

    def _new(
        self, logger: str, file: str, line: int, function: str, level: int, now_s: float
    ) -> Site | None:
        with self._lock:
            if len(self._sites) >= MAX_SITES and not self._make_room(now_s):
                return None
            made = Site(logger, file, line, function, level)
            made.ends_s = _FOREVER if self._unlimited else now_s
            return self._sites.setdefault((logger, file, line, level), made)

    def _begin(self, site: Site, now_s: float) -> None:
        with self._lock:
            if now_s >= site.ends_s:
                self._end(site)
                site.ends_s, site.left = now_s + self.period_s, self._allowed

    def _end(self, site: Site) -> None:
        if site.suppressed:
            told = None if site is self._others else site
            self._told_later.append(Suppressed(told, site.suppressed))
            site.suppressed = 0

    def _admit_again(self, site: Site) -> Site | None:
        """Its period is used up, unless another thread has begun the next meanwhile."""
        if self._unlimited:
            return site
        with self._lock:
            if site.left > 0:
                site.left -= 1
                return site
            site.suppressed += 1
            return None

    def _admit_other(self, site: Site, now_s: float) -> Site | None:
        if self._unlimited:
            return site
        if now_s >= self._others.ends_s:
            self._begin(self._others, now_s)
        return site if self._admit_again(self._others) is not None else None

    def _make_room(self, now_s: float) -> bool:
        if now_s < self._look_again_s:  # not for each record that finds none
            return False
        self._look_again_s = now_s + self.period_s
        for key, site in list(self._sites.items()):
            if now_s >= site.ends_s and not site.suppressed:
                del self._sites[key]
        return len(self._sites) < MAX_SITES

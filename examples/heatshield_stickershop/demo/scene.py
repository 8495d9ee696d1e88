"""Collects the current state of a run from results and events, for a view to show. No I/O."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from heatshield_stickershop.demo.events import Event
from heatshield_stickershop.demo.report import (
    SECOND_NS,
    enforced_everywhere_ns,
    opened,
    percentile,
)
from heatshield_stickershop.load import Sent

__all__ = ["Recent", "Scene", "told"]

RECENT_NS: Final = 2 * SECOND_NS
"""Window of the shown latencies: long enough for a p99, short enough to show a change."""

HEADLINES_KEPT: Final = 8

DONE: Final = {
    "pace": "slowed to a fair share",
    "reject": "refused",
    "trickle": "slowed to a few calls a second",
    "flag": "flagged",
}
"""What a breaker entry does to its user, by its mode."""

ENDED: Final = ("closed", "cleared", "refused")
"""Changes after which nothing is held."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Others' requests that ended in the last two seconds; latencies in ms, None without any."""

    requests: int
    p50_ms: float | None
    p99_ms: float | None
    errors: int


def told(entry: Mapping[str, Any], change: str, mode: str) -> str:
    """Which user a breaker entry is about, where, and what the platform, in a mode, does to it."""
    whose = f"{entry['user']}, {entry['service']} {entry['call']}"
    done = DONE.get(entry.get("mode", ""))
    if done is None or change in ENDED:
        return whose
    probes = " but for probes" if change == "half_open" and done == DONE["reject"] else ""
    return f"{whose} {'is' if mode == 'protect' else 'would be'} {done}{probes}"


@dataclass(slots=True)
class Scene:
    """The state of a run in progress.

    Attributes:
        mode: ``shadow`` or ``protect``.
        measured_from_ns: end of the warm-up.
        ends_ns: when the load ends, approximately.
        sent: every request so far.
        events: every event of the collector so far.
        loads: rows of ``/api/users/hot``.
        alerts: the latest state of each alert, by name and labels.
        breakers: the held entries, by id.
        headlines: the latest headlines.
    """

    mode: str
    measured_from_ns: int
    ends_ns: int
    sent: list[Sent] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    loads: Sequence[Mapping[str, Any]] = ()
    alerts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    breakers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    headlines: deque[str] = field(default_factory=lambda: deque(maxlen=HEADLINES_KEPT))
    first_hot_ns: int | None = None
    enforced_ns: int | None = None
    _recent: deque[tuple[int, Sent]] = field(default_factory=deque)

    def add_sent(self, sent: Sent) -> str | None:
        """Add a request that has ended; return its headline, if it makes one."""
        self.sent.append(sent)
        if not sent.hot:
            self._recent.append((sent.due_ns + round(sent.latency_ms * 1e6), sent))
            return None
        if self.first_hot_ns is not None:
            return None
        self.first_hot_ns = sent.due_ns
        return self._headline(sent.due_ns, f"{sent.user} begins to buy without pause")

    def add_event(self, event: Event) -> str | None:
        """Add an event of the collector; return its headline, if it makes one."""
        self.events.append(event)
        if event.name == "alert":
            return self._alert(event)
        if event.name == "breaker":
            return self._breaker(event)
        if event.name == "applied":
            return self._applied(event)
        return None

    def recent(self, now_ns: int) -> Recent:
        """Others' requests of the last two seconds."""
        while self._recent and self._recent[0][0] < now_ns - RECENT_NS:
            self._recent.popleft()
        latencies = [sent.latency_ms for _, sent in self._recent]
        return Recent(
            requests=len(latencies),
            p50_ms=percentile(latencies, 0.50),
            p99_ms=percentile(latencies, 0.99),
            errors=sum(sent.failed for _, sent in self._recent),
        )

    def stage(self, now_ns: int) -> str:
        """The name of the current part of the load."""
        if self.first_hot_ns is not None:
            return "the hot user keeps buying"
        return "warm-up" if now_ns < self.measured_from_ns else "ordinary users alone"

    def _alert(self, event: Event) -> str | None:
        key = f"{event.data['name']} {sorted(event.data.get('labels', {}).items())}"
        known = self.alerts.get(key, {}).get("state")
        self.alerts[key] = event.data
        if event.data["state"] == known:
            return None
        labels = event.data.get("labels", {})
        about = labels.get("user") or labels.get("resource", "")
        return self._headline(
            event.at_ns, f"alert {event.data['name']} {event.data['state']} {about}"
        )

    def _breaker(self, event: Event) -> str | None:
        entry, change = event.data["entry"], event.data["change"]
        if entry is None:  # a refused entry was never held
            return None
        if change in ENDED:
            self.breakers.pop(entry["id"], None)
        else:
            known = self.breakers.get(entry["id"], entry)
            self.breakers[entry["id"]] = entry | {"state": change}
            if change == "renewed" and known.get("mode") == entry.get("mode"):
                return None  # its budget, or what a call costs by now
        return self._headline(event.at_ns, f"breaker {change}: {told(entry, change, self.mode)}")

    def _applied(self, event: Event) -> str | None:
        opening = opened(self.events, self.first_hot_ns or 0)
        if opening is None or self.enforced_ns is not None or self.mode != "protect":
            return None
        self.enforced_ns = enforced_everywhere_ns(self.events, opening)
        if self.enforced_ns is None:
            return None
        return self._headline(event.at_ns, "every service process enforces it")

    def _headline(self, at_ns: int, text: str) -> str:
        since = "" if self.first_hot_ns is None else f"{(at_ns - self.first_hot_ns) / 1e9:+.2f} s  "
        self.headlines.append(since + text)
        return since + text

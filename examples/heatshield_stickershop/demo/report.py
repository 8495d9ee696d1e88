"""Computes the figures of the two runs from recorded requests and events, without I/O.

**Others** are all users but the hot one. **Before** are their requests that were due after the
warm-up and had ended when the hot user sent the first request. **During** are all requests due
from then to the end of the load, in protect, too, so the time before the breaker opens counts.
The hot user is **paced** first: a fair share goes through. If detection still finds the user hot
two seconds later, the user is **refused**. **After enforcement** are others' requests that were due
a second after every service process had acknowledged the last of these steps: by then the hot
user's running requests have ended; *during* includes them.

A percentile is the nearest rank: a latency that was measured. A latency counts from when the
request was due, so it includes the wait behind others. An error is a 5xx or no answer.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from heatshield_stickershop.demo.events import Event
from heatshield_stickershop.load import Sent
from heatshield_stickershop.platform import SERVICES
from heatshield_stickershop.population import HOT_USER

__all__ = [
    "RECOVERED",
    "Expectation",
    "Run",
    "calm_p99_ms",
    "enforced_everywhere_ns",
    "evidence_candidates",
    "expectations",
    "opened",
    "percentile",
    "recovered_after_s",
    "refused",
    "report",
]

SECOND_NS: Final = 10**9

WINDOW_NS: Final = SECOND_NS
"""Window of the p99 that decides when others have recovered, by due time: one second."""

STEP_NS: Final = SECOND_NS // 20
"""The window slides by 50 ms."""

ENOUGH_SAMPLES: Final = 20
"""Requests that a window needs to count: half of the average in a second."""

DRAIN_NS: Final = SECOND_NS
"""A breaker refuses new requests; the purchases that had begun end within this time."""

HARM: Final = 5.0
"""In shadow, others' p99 must rise to this many times its value before."""

RECOVERED: Final = 2.0
"""Others' p99 counts as recovered under this many times its value before."""

ENFORCED_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one run.

    Attributes:
        mode: ``shadow`` or ``protect``.
        sent: all requests, in any order.
        events: the collector's events, in order of arrival.
        measured_from_ns: end of the warm-up, in nanoseconds since the Unix epoch.
        evidence_trace_id: the request that shows why the breaker opened, if one was found.
        evidence_elements: collection elements that this request wrote.
    """

    mode: str
    sent: Sequence[Sent]
    events: Sequence[Event]
    measured_from_ns: int
    evidence_trace_id: str | None = None
    evidence_elements: int | None = None

    @property
    def first_hot_ns(self) -> int:
        """When the hot user sent the first request."""
        return min(sent.due_ns for sent in self.sent if sent.hot)

    def others(self, from_ns: int, to_ns: float = math.inf) -> list[Sent]:
        """Requests of all but the hot user that were due in that time."""
        return [sent for sent in self.sent if not sent.hot and from_ns <= sent.due_ns < to_ns]

    @property
    def before(self) -> list[Sent]:
        """Others' requests that ended before the hot user's first request."""
        first = self.first_hot_ns
        due = self.others(self.measured_from_ns, first)
        return [sent for sent in due if sent.due_ns + sent.latency_ms * 1e6 < first]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation of the demo.

    Attributes:
        text: what is expected.
        found: the measured value; None where it was not seen.
        met: whether it is as expected.
        is_latency: whether other work on the machine falsifies it.
    """

    text: str
    found: float | None
    met: bool
    is_latency: bool = True


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile, or None without values; ``share`` is in (0, 1]."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def calm_p99_ms(run: Run) -> float | None:
    """Others' p99 before the hot user's first request."""
    return _p99(run.before)


def opened(events: Iterable[Event], since_ns: int = 0) -> Event | None:
    """The first opening of a breaker around the hot user from that time on."""
    found = (event for event in events if event.opens(HOT_USER) and event.at_ns >= since_ns)
    return next(found, None)


def refused(events: Iterable[Event], since_ns: int = 0) -> Event | None:
    """The first refusal of a call of the hot user from that time on, where pacing did not do."""
    found = (event for event in events if event.refuses(HOT_USER) and event.at_ns >= since_ns)
    return next(found, None)


def enforced_everywhere_ns(events: Sequence[Event], opening: Event) -> int | None:
    """When the last service process acknowledged a state that contains the opened breaker.

    It counts all processes of the four services that appear in the events; the result is None
    while one of these, or a whole service, has not acknowledged.
    """
    processes: dict[tuple[str, str], int | None] = {}
    for event in events:
        if event.name not in ("applied", "instance") or event.data["service"] not in SERVICES:
            continue
        process = (event.data["service"], event.data["instance"])
        acknowledged = event.name == "applied" and event.version >= opening.version
        if processes.get(process) is None:
            processes[process] = event.at_ns if acknowledged else None
    times = [at_ns for at_ns in processes.values() if at_ns is not None]
    complete = len(times) == len(processes)
    return max(times) if complete and {name for name, _ in processes} == set(SERVICES) else None


def recovered_after_s(run: Run) -> float | None:
    """Seconds from the first hot request until others' p99 was back under 2 times before.

    Every 50 ms it takes the p99 of the requests due in the last second. The result is the first
    moment, after a rise, at which that p99 is under the limit again; a whole second of ordinary
    latencies has then passed. 0 if the p99 never rose, None if it never came back.
    """
    calm = calm_p99_ms(run)
    if calm is None:
        return None
    during = sorted(run.others(run.first_hot_ns - WINDOW_NS), key=lambda sent: sent.due_ns)
    risen = False
    end_ns = during[-1].due_ns if during else 0
    for at_ns in range(run.first_hot_ns + STEP_NS, end_ns + 1, STEP_NS):
        window = [sent for sent in during if at_ns - WINDOW_NS <= sent.due_ns < at_ns]
        p99 = _p99(window)
        if p99 is None or len(window) < ENOUGH_SAMPLES:
            continue
        if p99 >= RECOVERED * calm:
            risen = True
        elif risen:
            return (at_ns - run.first_hot_ns) / SECOND_NS
    return None if risen else 0.0


def evidence_candidates(events: Iterable[Event]) -> list[str]:
    """Trace ids that the collector names as the reason for cutting the hot user, best first."""
    of_breakers: list[str] = []
    of_findings: list[str] = []
    for event in events:
        if event.opens(HOT_USER):
            of_breakers += _texts(event.data["entry"].get("evidence", {}).get("trace_ids"))
        elif event.name == "finding" and event.data.get("user") == HOT_USER:
            of_findings += _texts(event.data.get("trace_ids"))
    return list(dict.fromkeys(of_breakers + of_findings))


def report(shadow: Run, protect: Run) -> dict[str, dict[str, Any]]:
    """Build the report as plain values for JSON: latencies in ms, rates as shares, times in s."""
    return {"shadow": _harm(shadow), "protect": _harm(protect) | _protection(protect)}


def expectations(found: dict[str, dict[str, Any]]) -> list[Expectation]:
    """Check the demo's expectations against a report."""
    shadow, protect = found["shadow"], found["protect"]
    harm = _ratio(shadow["others_p99_ms_during"], shadow["others_p99_ms_before"])
    after = _ratio(protect["others_p99_ms_after_enforcement"], protect["others_p99_ms_before"])
    enforced = protect["enforced_everywhere_after_s"]
    others, share = protect["others_rejected"], protect["hot_user_paced_through"]
    return [
        Expectation(
            f"in shadow, others' p99 rises to at least {HARM:g} times its value before",
            harm,
            harm is not None and harm >= HARM,
        ),
        Expectation(
            f"enforced in every process within {ENFORCED_WITHIN_S:g} s of the first hot request",
            enforced,
            enforced is not None and enforced < ENFORCED_WITHIN_S,
        ),
        Expectation(
            "before any refusal, the hot user is only slowed: purchases that went through",
            share,
            bool(share),
            is_latency=False,
        ),
        Expectation(
            f"in protect, others' p99 once enforced is under {RECOVERED:g} times its value before",
            after,
            after is not None and after < RECOVERED,
        ),
        Expectation(
            "no request of any other user is rejected", others, others == 0, is_latency=False
        ),
    ]


def _harm(run: Run) -> dict[str, Any]:
    during = run.others(run.first_hot_ns)
    return {
        "others_p50_ms_before": _rounded(percentile(_latencies(run.before), 0.50)),
        "others_p50_ms_during": _rounded(percentile(_latencies(during), 0.50)),
        "others_p99_ms_before": _rounded(calm_p99_ms(run)),
        "others_p99_ms_during": _rounded(_p99(during)),
        "others_error_rate_before": _error_rate(run.before),
        "others_error_rate_during": _error_rate(during),
        "others_requests_before": len(run.before),
        "others_requests_during": len(during),
        "hot_user_requests": sum(sent.hot for sent in run.sent),
    }


def _protection(run: Run) -> dict[str, Any]:
    first = run.first_hot_ns
    opening = opened(run.events, first)
    enforced = enforced_everywhere_ns(run.events, opening) if opening else None
    refusal = refused(run.events, opening.at_ns) if opening else None
    refused_ns = enforced_everywhere_ns(run.events, refusal) if refusal else None
    settled = refused_ns or enforced
    after = run.others(settled + DRAIN_NS) if settled else []
    paced = _paced(run, opening, refusal)
    hot = [sent for sent in run.sent if sent.hot]
    return {
        "others_p99_ms_after_enforcement": _rounded(_p99(after)),
        "others_requests_after_enforcement": len(after),
        "refused_after_s": _seconds(first, refusal.at_ns if refusal else None),
        "hot_user_paced_through": sum(not (sent.refused or sent.failed) for sent in paced),
        "hot_user_told_to_wait": sum(sent.status == HTTPStatus.TOO_MANY_REQUESTS for sent in hot),
        "first_hot_request_at": datetime.fromtimestamp(first / 1e9, UTC).isoformat(),
        "detected_after_s": _seconds(first, opening.at_ns if opening else None),
        "enforced_everywhere_after_s": _seconds(first, enforced),
        "recovered_after_s": _rounded(recovered_after_s(run)),
        "hot_user_rejected": sum(sent.refused for sent in hot),
        "others_rejected": sum(sent.refused for sent in run.sent if not sent.hot),
        "breaker": opening.data["entry"] if opening else None,
        "evidence_trace_id": run.evidence_trace_id,
        "evidence_elements": run.evidence_elements,
    }


def _paced(run: Run, opening: Event | None, refusal: Event | None) -> list[Sent]:
    """The hot user's requests that were due while the user was paced."""
    if opening is None:
        return []
    until_ns = math.inf if refusal is None else refusal.at_ns
    return [sent for sent in run.sent if sent.hot and opening.at_ns <= sent.due_ns < until_ns]


def _latencies(sent: Iterable[Sent]) -> list[float]:
    return [one.latency_ms for one in sent]


def _p99(sent: Iterable[Sent]) -> float | None:
    return percentile(_latencies(sent), 0.99)


def _error_rate(sent: Sequence[Sent]) -> float | None:
    return round(sum(one.failed for one in sent) / len(sent), 4) if sent else None


def _seconds(from_ns: int, to_ns: int | None) -> float | None:
    return None if to_ns is None else round((to_ns - from_ns) / SECOND_NS, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _ratio(value: float | None, of: float | None) -> float | None:
    return round(value / of, 2) if value is not None and of else None


def _texts(values: object) -> list[str]:
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []

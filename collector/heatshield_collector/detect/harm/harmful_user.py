"""Harmful users: finds who burns a resource to the harm of others there, while it happens.

Every 250 ms the rule (:mod:`heatshield_collector.detect.harm.rule`) looks at the last second. Where
it holds once, the finding suggests ``pace``; where it held in seven of the eight evaluations of two
seconds, so that pacing did not end it, ``reject``. A weak suspicion may slow; only lasting harm
refuses.

Where others are harmed for two seconds and no user is the cause, the finding is an ``overload``.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from heatshield.call_key import DEFAULT_TENANT, SEPARATOR, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect.findings import Action, Finding
from heatshield_collector.detect.harm.cases import CALL_PART, Case, Crowded
from heatshield_collector.detect.harm.contention import Contention
from heatshield_collector.detect.harm.reason import overload_sentence, sentence, victims
from heatshield_collector.detect.harm.rule import RULE, HarmRule, Seen, harmed, judge
from heatshield_collector.detect.harm.usual import YOUNG_S
from heatshield_collector.detect.harm.work import Work
from heatshield_collector.detect.protocol import Sources
from heatshield_collector.detect.windows import PANE_S
from heatshield_collector.link import Linked
from heatshield_collector.link.reported import Reported

__all__ = ["HARMFUL", "OVERLOAD", "HarmfulUser"]

HARMFUL: Final = "harmful"
OVERLOAD: Final = "overload"

LASTING_OF: Final = 8
LASTING: Final = 7
"""Evaluations of the last eight, that is of two seconds, in which harm must hold to be lasting."""

STANDS: Final = 4
"""Evaluations for which a finding stands after it held last: one second."""

DIGITS: Final = 6
"""Of figures: no clock tells less than a microsecond."""

BURNT_S: Final = 60.0
"""For so long after harm what the user does is not taken for usual: a user who is slowed goes on,
and is not so for good."""

STRONG: Final = 0.5
"""Part of the others' requests from which on, while it is not known what is usual, the harm can be
no ordinary day."""

FROZEN_S: Final = 600.0
"""For so long at most, an overload that nobody is the cause of keeps what is usual from moving:
what lasts longer is the new usual."""


@dataclass(slots=True)
class _Held:
    """In which evaluations something held, and since when.

    Attributes:
        since: of the first of them.
        slots: numbers of the evaluations, at most one each 250 ms.
        measured: those of them in which the harm was measured: only that may be lasting.
        low: least and
        high: greatest part of the window that the user kept the resource busy for.
        is_strong: so many others are harmed that it can be no ordinary day.
    """

    since: Instant
    slots: deque[int] = field(default_factory=lambda: deque(maxlen=LASTING_OF))
    measured: deque[int] = field(default_factory=lambda: deque(maxlen=LASTING_OF))
    low: float = 1.0
    high: float = 0.0
    case: Case | None = None
    is_strong: bool = False

    def note(self, slot: int, *, measured: bool = True) -> None:
        for slots in (self.slots, self.measured) if measured else (self.slots,):
            if not slots or slots[-1] != slot:
                slots.append(slot)

    def lasting(self, slot: int) -> bool:
        return sum(1 for one in self.measured if one > slot - LASTING_OF) >= LASTING

    def stands(self, slot: int) -> bool:
        return bool(self.slots) and self.slots[-1] > slot - STANDS


class HarmfulUser:
    """Names each user on a call who harms others, and each resource that is overloaded.

    Args:
        sources: loads and evidence; what was usual and the last seconds it keeps itself.
        rule: the thresholds.
    """

    def __init__(self, sources: Sources, rule: HarmRule = RULE) -> None:
        self._sources = sources
        self._rule = rule
        self.work = Work()
        self._contention = Contention(self.work, rule)
        self._held: dict[tuple[str, int], _Held] = {}
        self._crowded: dict[str, _Held] = {}
        self._burnt_s: dict[tuple[str, int], float] = {}

    def observe(self, linked: Linked, instant: Instant) -> bool:
        """Take in charges of spans. Not urgent by itself."""
        self.work.take_spans(linked, instant)
        return False

    def pairs(self, reported: Reported, instant: Instant) -> bool:
        """Take in charge reports that have not come before. Not urgent by themselves."""
        self.work.take_reports(reported, instant)
        return False

    def evaluate(self, instant: Instant) -> Sequence[Finding]:
        """Who harms others at this moment, and what is overloaded."""
        now_s = instant.monotonic_s
        slot = int(now_s / PANE_S)
        cases, crowded = self._contention.look(now_s)
        for case in cases:
            verdict = judge(self._rule, case.seen)
            if verdict.harmful:
                self._hold(case, slot, instant, measured=verdict.measured)
        self._held = {key: held for key, held in self._held.items() if _is_recent(held, slot)}
        self._contention.learn(now_s, self._burning(now_s, slot))
        self._freeze(crowded, slot, instant)
        found = [one for held in self._held.values() for one in self._findings(held, slot, instant)]
        return [*_heaviest(found), *self._overloads(crowded, slot, now_s)]

    def _hold(self, case: Case, slot: int, instant: Instant, *, measured: bool) -> None:
        held = self._held.setdefault((case.resource, case.user), _Held(instant))
        held.note(slot, measured=measured)
        busy = min(1.0, case.seen.own_s / self._rule.window_s)
        held.is_strong = case.seen.harmed >= STRONG * case.seen.others
        held.low, held.high, held.case = min(held.low, busy), max(held.high, busy), case

    def _burning(self, now_s: float, slot: int) -> dict[str, set[int]]:
        """By resource the users whose part is not usual: they burn, or did a little ago."""
        is_young = self.work.by_call.age_s(now_s) < YOUNG_S
        for key, held in self._held.items():
            # Who is large on every day may look like a burner while nothing is known yet: with
            # little harm, or harm that comes and goes, that is soon taken for usual.
            if not is_young or (held.is_strong and held.lasting(slot)):
                self._burnt_s[key] = now_s
        self._burnt_s = {key: at_s for key, at_s in self._burnt_s.items() if now_s - at_s < BURNT_S}
        burning: dict[str, set[int]] = {}
        for resource, user in self._burnt_s:
            burning.setdefault(resource, set()).add(user)
        return burning

    def _freeze(self, crowded: Sequence[Crowded], slot: int, instant: Instant) -> None:
        """Keep what harmed calls and backends do from becoming the usual."""
        for one in crowded:
            if not harmed(self._rule, one.harmed, one.requests, self._rule.young_harmed):
                continue
            self._crowded.setdefault(one.resource, _Held(instant)).note(slot)
        self._crowded = {
            name: held for name, held in self._crowded.items() if _is_recent(held, slot)
        }
        culprits = {resource for resource, _ in self._held}
        frozen = [
            one
            for one in crowded
            if (held := self._crowded.get(one.resource)) is not None
            and (culprits or instant.monotonic_s - held.since.monotonic_s < FROZEN_S)
        ]
        now_s = instant.monotonic_s
        late = {one for held in self._held.values() if held.case for one in held.case.processes}
        self.work.by_process.freeze(late, now_s)
        self.work.by_call.freeze({call for one in frozen for call in one.where}, now_s)
        self.work.by_backend.freeze({one.number for one in frozen if one.kind == "backend"}, now_s)

    def _findings(self, held: _Held, slot: int, instant: Instant) -> Iterator[Finding]:
        case = held.case
        if case is None or not held.stands(slot):
            return
        seen = case.seen
        # A few requests that began before the user was slowed run on whether or not the next is
        # refused.
        is_many = case.requests >= self._rule.pieces
        action: Action = "reject" if held.lasting(slot) and is_many else "pace"
        who = victims(self.work, case, instant.monotonic_s)
        for call, spent_s in case.calls.items():
            if spent_s < CALL_PART * seen.own_s:
                continue
            key = self.work.key(case.user, call)
            if key.user is None:
                continue
            elements, usual_elements = self.work.elements_per_call(case.user, call)
            yield Finding(
                klass=HARMFUL,
                key=key,
                cost="busy",
                window="1s",
                load=round(spent_s / self._rule.window_s, DIGITS),
                baseline=round(seen.usual_load or 0.0, DIGITS),
                reason=sentence(case, key, (held.low, held.high), elements, usual_elements,
                                held.since),
                trace_ids=self._sources.evidence.of(key.text),
                action=action,
                resource=case.resource,
                figures=self._figures(held, seen, elements, usual_elements),
                thresholds={
                    "share": self._rule.share,
                    "ratio": self._rule.ratio,
                    "cost_times": self._rule.cost_times,
                    "harmed_share": self._rule.harmed,
                },
                victims=who,
            )  # fmt: skip

    @staticmethod
    def _figures(held: _Held, seen: Seen, elements: float, usual: float) -> dict[str, float]:
        figures = {
            "busy_low": held.low,
            "busy_high": held.high,
            "share": seen.share,
            "usual_share": seen.usual_share or 0.0,
            "cost_times": round(min(seen.cost_times, 1e9), 1),
            "elements_per_call": elements,
            "usual_elements_per_call": usual,
            "others": seen.others,
            "harmed": seen.harmed,
        }
        return {name: round(float(figure), DIGITS) for name, figure in figures.items()}

    def _overloads(self, crowded: Sequence[Crowded], slot: int, now_s: float) -> Iterator[Finding]:
        """Resources where others have been harmed for two seconds, and no user is the cause."""
        if self._held:
            return  # what a user burns slows other resources, too
        for one in crowded:
            held = self._crowded.get(one.resource)
            if held is None or not held.lasting(slot) or not one.where:
                continue
            service, _, call = self.work.numbers.calls.name(one.where[0]).partition(SEPARATOR)
            yield Finding(
                klass=OVERLOAD,
                key=CallKey(DEFAULT_TENANT, None, service, call),
                cost="busy",
                window="1s",
                load=0.0,
                baseline=0.0,
                reason=overload_sentence(one, held.since),
                resource=one.resource,
                figures={"requests": float(one.requests), "harmed": float(one.harmed)},
                thresholds={"harmed_share": self._rule.harmed},
                victims=victims(self.work, one, now_s),
            )


def _is_recent(held: _Held, slot: int) -> bool:
    return bool(held.slots) and held.slots[-1] > slot - LASTING_OF


def _heaviest(found: Sequence[Finding]) -> list[Finding]:
    """One finding a key: where a user harms on two resources, that of the greater load."""
    best: dict[CallKey, Finding] = {}
    for one in found:
        known = best.get(one.key)
        if known is None or (one.action, one.load) > (known.action, known.load):
            best[one.key] = one
    return list(best.values())

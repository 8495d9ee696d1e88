"""Says in one sentence why a user may be slowed, and who suffers."""

from datetime import UTC, datetime
from typing import Final

import numpy as np

from heatshield.call_key import SEPARATOR, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect.findings import Victims
from heatshield_collector.detect.harm.cases import Case, Crowded
from heatshield_collector.detect.harm.rates import is_starved
from heatshield_collector.detect.harm.rule import Seen
from heatshield_collector.detect.harm.work import Work

__all__ = ["overload_sentence", "sentence", "victims"]

WORTH_TELLING: Final = 2.0
"""Times the usual from which on elements are the reason to tell."""

NAMED: Final = 10


def sentence(
    case: Case, key: CallKey, busy: tuple[float, float], elements: float, usual_elements: float,
    since: Instant,
) -> str:  # fmt: skip
    """Why: what the user keeps busy, with what, and how the others fare since when.

    Args:
        case: the user on the resource.
        key: the user's key on the call.
        busy: least and greatest part of the time that the user kept it busy for.
        elements: of the user's calls, each; 0: not known.
        usual_elements: of the others'.
        since: when it was seen first.
    """
    low, high = (f"{round(one * 100)}" for one in busy)
    part = f"{low} %" if low == high else f"{low}-{high} %"
    seen = case.seen
    burns = (
        f"{key.user} keeps {_named(case.resource)} {part} busy with `{key.service} {key.call}`"
        f"{_cost(case, elements, usual_elements)}; since {_clock(since)} "
    )
    if _misses(seen):
        return (
            f"{burns}only {seen.served:,.0f} requests of other users are answered there a second, "
            f"usually {seen.expected:,.0f}"
        )
    return (
        f"{burns}{seen.harmed / max(1, seen.others):.0%} of {seen.others} other users' "
        f"{'operations' if case.kind == 'backend' else 'requests'} there are slower than their "
        "usual 95th percentile"
    )


def _misses(seen: Seen) -> bool:
    """Whether more requests of others are missing than are seen to be slow."""
    return is_starved(seen.served, seen.expected) and seen.expected - seen.served > seen.harmed


def overload_sentence(one: Crowded, since: Instant) -> str:
    """Why: how all fare on a resource since when, and that no user is the cause."""
    return (
        f"{one.harmed / max(1, one.requests):.0%} of {one.requests} "
        f"{'operations' if one.kind == 'backend' else 'requests'} on {_named(one.resource)} are "
        f"slower than their usual 95th percentile since {_clock(since)}, and no user is the cause"
    )


def _cost(case: Case, elements: float, usual_elements: float) -> str:
    if usual_elements > 0 and elements >= WORTH_TELLING * usual_elements:
        times = elements / usual_elements
        return f" ({elements:,.0f} elements a call, {times:,.0f} x the others')"
    times = case.seen.cost_times
    if times >= WORTH_TELLING and np.isfinite(times):
        return f" (each {times:,.0f} x as costly as the others')"
    return f" ({case.seen.pieces:,} of {case.seen.pieces + case.seen.other_pieces:,} there)"


def _named(resource: str) -> str:
    return f"`{resource}`"


def _clock(since: Instant) -> str:
    return datetime.fromtimestamp(since.epoch_ns / 1e9, UTC).strftime("%H:%M:%S")


def victims(work: Work, case: Case | Crowded, now_s: float) -> Victims:
    """Who suffers on a resource, and how their calls fare against what is usual."""
    if isinstance(case, Case):
        requests, slow, user, who = case.seen.others, case.seen.harmed, case.user, case.who
        if _misses(case.seen):
            requests, slow = round(case.seen.expected), round(case.seen.expected - case.seen.served)
    else:
        requests, slow, user, who = case.requests, case.harmed, None, ()
    rows = work.requests(now_s, 1.0)
    here = np.isin(rows.call, np.array(case.where, dtype=np.float64))
    if user is not None:
        here &= rows.user != user
    known = work.by_call.p95_us(now_s)
    usual = [known[call] for call in case.where if call < len(known) and np.isfinite(known[call])]
    errors = [work.by_call.error_share(call, now_s) for call in case.where]
    calls = rows.calls[here].sum()
    return Victims(
        requests=requests,
        harmed=slow,
        users=len(who),
        worst_users=tuple(filter(None, map(work.numbers.users.name, who[:NAMED]))),
        calls=tuple(
            work.numbers.calls.name(call).replace(SEPARATOR, " ") for call in case.where[:NAMED]
        ),
        usual_p95_ms=float(max(usual, default=0.0)) / 1e3,
        p95_ms=float(np.quantile(rows.us[here], 0.95)) / 1e3 if here.any() else 0.0,
        usual_errors=max(errors, default=0.0),
        errors=float(rows.failed[here].sum() / calls) if calls else 0.0,
    )

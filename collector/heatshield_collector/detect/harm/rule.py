"""The harm rule, pure: what was seen of one user on one resource in, a verdict out.

A user may be slowed when three things hold together, over the last second:

1. **Others are harmed.** Of the others' requests there (on a backend: operations), ended or still
   waiting, at least 15 % are slow: longer than twice the usual 95th percentile, and ten
   milliseconds more than it. Were nothing wrong, one in fifty would take so long (that is the part
   of a lognormal distribution with sigma 1.5 above twice its 95th percentile; of a narrower one it
   is less); that so many do is no chance (binomial tail under 1e-5). Or far fewer of them than
   usual are answered at all, where the user has most of a service.
2. **The user dominates.** At least 30 % of the *service time* is the user's, where each request
   counts at most a quarter of that, so that at least four are needed.
3. **It is the user's doing, and unusual.** The share and the load are at least three times the
   user's own usual ones, and either the user's pieces are costly (each costs at least five times
   what the others' pieces cost, and it is no chance that so much falls on the user's; or twenty
   times), or there are far more of them than three times the usual share explains. Without the last
   a random user was taken for the culprit when a deploy had made everything expensive, as somebody
   always has the most.

``docs/detection.md`` has each threshold with its reason and what came of other values.
"""

import math
from dataclasses import dataclass
from typing import Final

from heatshield_collector.detect.harm.rates import is_starved
from heatshield_collector.detect.harm.significance import binomial_tail

__all__ = ["RULE", "HarmRule", "Seen", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class HarmRule:
    """Thresholds of the harm rule.

    Attributes:
        window_s: what it looks at, seconds.
        share: least part of the service time.
        pieces: fewest requests that can make it up.
        ratio: times the user's usual share, and load.
        load_ratio: times the usual load from which on the share does not matter.
        cost_times: times the cost of the others' pieces.
        cost_tail: probability under which it is no chance that the costly pieces are the user's.
        sure_cost_times: times the cost from which on nobody asks for chance.
        sure_share: part of the service time from which on, at this cost, it is sure who would be
            the cause of harm; so fewer slow requests show that there is some.
        sure_tail: the probability then under which it is no chance.
        busy_s: least service time in the window, of all; with less nobody can harm.
        harmed: least part of the others' requests that is slow.
        requests: fewest requests of others that can tell.
        chance: part that is slow if nothing is wrong.
        tail: probability under which it is no chance.
        number_tail: the same of the number of the user's pieces.
        young_harmed: the same where it is not known what is usual for the user.
        full: least load of a user who can keep others from being served, seconds a second.
        utilisation: least part of a process's processor time that is used, in its contention.
    """

    window_s: float = 1.0
    share: float = 0.30
    pieces: int = 4
    ratio: float = 3.0
    load_ratio: float = 8.0
    cost_times: float = 5.0
    cost_tail: float = 1e-3
    sure_cost_times: float = 20.0
    sure_share: float = 0.4
    sure_tail: float = 1e-3
    busy_s: float = 0.15
    harmed: float = 0.15
    requests: int = 5
    chance: float = 0.02
    tail: float = 1e-5
    number_tail: float = 1e-4
    young_harmed: float = 0.25
    full: float = 0.5
    utilisation: float = 0.5


RULE: Final = HarmRule()


@dataclass(frozen=True, slots=True)
class Seen:
    """One user on one resource, over the window.

    Attributes:
        busy_s: service time of all.
        own_s: the user's.
        clipped_s: the user's, each request clipped.
        pieces: the user's requests (operations, on a backend).
        other_pieces: the others'.
        usual_share: upper bound of the user's usual part, 0 to 1; ``None``: not known.
        usual_load: upper bound of the user's usual load, seconds a second; ``None``: not known.
        others: requests of others.
        harmed: those that are slow.
        others_lately: requests of others in the second half of the window.
        harmed_lately: those that are slow.
        told_cost_times: how many times as much a piece of the user's costs, where that is known
            better than from service time and pieces.
        chance: the probability that so much of the service time falls on the user's pieces by
            chance, though they are like the others' (:func:`.significance.share_tail`).
        expected: requests of others that are usually answered in the window; 0: not known.
        served: those that were.
    """

    busy_s: float
    own_s: float
    clipped_s: float
    pieces: int
    other_pieces: int
    usual_share: float | None
    usual_load: float | None
    others: int
    harmed: int
    others_lately: int = 0
    harmed_lately: int = 0
    told_cost_times: float | None = None
    chance: float = 0.0
    expected: float = 0.0
    served: float = 0.0

    @property
    def share(self) -> float:
        """The user's part of the service time, clipped, 0 to 1."""
        return self.clipped_s / self.busy_s if self.busy_s else 0.0

    @property
    def cost_times(self) -> float:
        """How many times as much one of the user's pieces costs as one of the others'."""
        if self.told_cost_times is not None:
            return self.told_cost_times
        others_s = max(self.busy_s - self.own_s, 0.0) / max(1, self.other_pieces)
        own_s = self.own_s / max(1, self.pieces)
        return own_s / others_s if others_s > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the user harms others; if not, the first thing that was lacking.

    Attributes:
        harmful: the user may be slowed.
        lacking: for people.
        measured: harm was measured, and not only inferred from requests that are missing.
    """

    harmful: bool
    lacking: str = ""
    measured: bool = True


def judge(rule: HarmRule, seen: Seen) -> Verdict:
    """Apply the rule."""
    is_known = seen.usual_share is not None and seen.usual_load is not None
    lacking = _lacking(rule, seen, is_known=is_known)
    if lacking:
        return Verdict(False, lacking)
    least = rule.harmed if is_known else rule.young_harmed
    is_sure = seen.share >= rule.sure_share and rule.sure_cost_times <= seen.cost_times < math.inf
    tail = rule.sure_tail if is_sure else rule.tail
    if harmed(rule, seen.harmed, seen.others, least, tail):
        return Verdict(True)
    if harmed(rule, seen.harmed_lately, seen.others_lately, least, tail):
        return Verdict(True)
    is_full = seen.own_s >= rule.full * rule.window_s
    if is_sure and is_known and is_full and is_starved(seen.served, seen.expected):
        return Verdict(True, measured=False)
    return Verdict(False, f"{seen.harmed} of {seen.others} requests of others are slow")


def _lacking(rule: HarmRule, seen: Seen, *, is_known: bool) -> str:
    """Why the user can't be the cause of harm, whether or not there is some; empty: may be."""
    if seen.busy_s < rule.busy_s:
        return "the resource is idle"
    if seen.share < rule.share:
        return f"the user has {seen.share:.0%} of it"
    if is_known and not _unusual(rule, seen):
        return "that is usual for the user"
    if not _is_costly(rule, seen) and not (is_known and _hammers(rule, seen)):
        return f"each piece costs {seen.cost_times:.1f} times the others'"
    return ""


def harmed(rule: HarmRule, slow: int, requests: int, least: float = 0.0, tail: float = 0.0) -> bool:
    """Whether so many slow requests mean harm.

    Args:
        rule: the thresholds.
        slow: of the requests.
        requests: of others.
        least: the part, in place of the rule's.
        tail: the probability, in place of the rule's.
    """
    return (
        requests >= rule.requests
        and slow >= (least or rule.harmed) * requests
        and binomial_tail(slow, requests, rule.chance) < (tail or rule.tail)
    )


def _unusual(rule: HarmRule, seen: Seen) -> bool:
    load = seen.own_s / rule.window_s
    usual_load = seen.usual_load or 0.0
    # Of a resource that is nearly idle anyone may have the most.
    is_share = seen.share >= rule.ratio * (seen.usual_share or 0.0)
    return load >= rule.ratio * usual_load and (is_share or load >= rule.load_ratio * usual_load)


def _is_costly(rule: HarmRule, seen: Seen) -> bool:
    """Whether each of the user's pieces costs far more than the others', and not by chance."""
    return seen.cost_times >= rule.sure_cost_times or (
        seen.cost_times >= rule.cost_times and seen.chance <= rule.cost_tail
    )


def _hammers(rule: HarmRule, seen: Seen) -> bool:
    """Whether there are more pieces than three times the usual share can explain."""
    chance = min(0.9, max(0.1, rule.ratio * (seen.usual_share or 0.0)))
    return binomial_tail(seen.pieces, seen.pieces + seen.other_pieces, chance) < rule.number_tail

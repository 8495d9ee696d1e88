"""Mistakes that the machines could have: the search must find each, or it proves nothing."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest

from breaker_model import mistakes, roots
from breaker_model.actions import Alphabet
from breaker_model.world import World
from heatshield_alerts.caps import Caps

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A mistake, and where it shows.

    Attributes:
        name: what goes wrong.
        caught_by: the invariants that notice, one of them at least.
        make: patches the machines.
        root: where the search begins.
        alphabet: what may happen, few things so that the search gets far.
        settle_every: of so many states one comes to rest.
    """

    name: str
    caught_by: tuple[str, ...]
    make: Callable[[pytest.MonkeyPatch], None]
    root: Callable[[], World]
    alphabet: Alphabet
    settle_every: int = 0


def _many() -> World:
    return roots.cold(Caps(entries=5))


def _only(pattern: str, **fields: Any) -> Alphabet:
    return Alphabet(only=pattern, **fields)


_GRANTED = ("enforced_means_granted", "silence_ends_enforcement")
_SAID = ("clients_hold_what_was_said",)
_CAPS = ("caps_hold",)
_QUIET = ("quiet_means_agreed",)

MUTANTS: Final = (
    Mutant(
        "the user is not looked at",
        _GRANTED,
        mistakes.decides_by_call_alone,
        roots.refused,
        _only("report"),
    ),
    Mutant(
        "callers hold on to what has lapsed",
        ("callers_refuse_no_more",),
        mistakes.callers_hold_on,
        roots.refused,
        _only("stall|pass"),
    ),
    Mutant(
        "shadow refuses",
        _GRANTED,
        mistakes.shadow_refuses,
        roots.refused,
        _only("mode|client 0 (asks|receives)", modes=True),
    ),
    Mutant(
        "the ramp never ends",
        _GRANTED,
        mistakes.ramp_never_ends,
        roots.refused,
        _only("stall|pass"),
    ),
    Mutant(
        "leases count from receipt",
        ("silence_ends_enforcement",),
        mistakes.leases_count_from_receipt,
        roots.refused,
        _only("client 0 asks|stall|client 0 receives|pass"),
    ),
    Mutant(
        "older states are taken",
        ("versions_never_go_back",),
        mistakes.older_states_are_taken,
        roots.refused,
        _only("a person|client 0 asks|client 0 receives"),
    ),
    Mutant(
        "deltas fit any base",
        _SAID,
        mistakes.deltas_fit_any_base,
        roots.paced,
        _only("turns hot|cools|a person|tells client 0|client 0 receives"),
    ),
    Mutant(
        "deltas forget what ended",
        _SAID,
        mistakes.deltas_forget_what_ended,
        roots.refused,
        _only("a person|tells client 0|client 0 receives"),
    ),
    Mutant(
        "caps are not asked",
        _CAPS,
        mistakes.caps_are_not_asked,
        roots.cold,
        _only("a person", people=(0, 1)),
    ),
    Mutant(
        "a restart asks for no cap",
        _CAPS,
        mistakes.restart_asks_for_no_cap,
        roots.paced,
        _only("restarts", low_caps=Caps(entries=1)),
    ),
    Mutant(
        "flags turn stricter unasked",
        _CAPS,
        mistakes.flags_turn_stricter_unasked,
        roots.one_user,
        _only("turns hot|flags", flags=True),
    ),
    Mutant(
        "every client probes",
        ("probes_keep_their_quota",),
        mistakes.every_client_probes,
        roots.half_open,
        _only("calls"),
    ),
    Mutant(
        "the quota is handed on at once",
        ("probes_keep_their_quota",),
        mistakes.quota_is_handed_on_at_once,
        roots.half_open,
        _only("bob calls|collector restarts$|client 1 (reports|receives|asks)|^1 s pass"),
    ),
    Mutant(
        "any issuer will do",
        ("entries_name_their_issuer",),
        mistakes.any_issuer_will_do,
        roots.cold,
        _only("a person"),
    ),
    Mutant(
        "the kill switch is ignored",
        ("kill_switch_stops_all",),
        mistakes.kill_switch_is_ignored,
        roots.refused,
        _only("reports"),
    ),
    Mutant(
        "parsing guesses",
        (*_SAID, "leases_keep_their_ceiling"),
        mistakes.parsing_guesses,
        roots.refused,
        _only("turns hot|client 0 asks|garbled"),
    ),
    Mutant(
        "keys may flap", ("keys_move_seldom",), mistakes.keys_may_flap, _many, _only("a person")
    ),
    Mutant(
        "keys that flap are let be",
        ("flapping_keys_are_held",),
        mistakes.flapping_keys_are_let_be,
        roots.flapping,
        _only("ann (turns hot|cools)|pass", crashes=0, stalls=0),
    ),
    Mutant(
        "clearing holds nothing down",
        ("cleared_stays_cleared",),
        mistakes.clearing_holds_nothing_down,
        roots.refused,
        _only("a person|turns hot"),
    ),
    Mutant(
        "a restart forgets hold-downs",
        ("cleared_stays_cleared",),
        mistakes.restart_forgets_hold_downs,
        roots.refused,
        _only("a person|restarts|turns hot"),
    ),
    Mutant(
        "the epoch does not grow",
        ("versions_never_go_back",),
        mistakes.epoch_does_not_grow,
        roots.refused,
        _only("restarts"),
    ),
    Mutant(
        "failing rules hold on",
        ("rules_that_fail_let_go",),
        mistakes.failing_rules_hold_on,
        roots.refused,
        _only("fail|pass"),
    ),
    Mutant(
        "reports count twice",
        ("refusals_count_once",),
        mistakes.reports_count_twice,
        roots.refused,
        _only("calls|report"),
    ),
    Mutant(
        "users are refused at once",
        ("pacing_comes_first",),
        mistakes.refuses_at_once,
        roots.cold,
        _only("turns hot"),
    ),
    Mutant(
        "pacing refuses",
        ("pacing_comes_first",),
        mistakes.pacing_refuses,
        roots.paced,
        _only("report"),
    ),
    Mutant(
        "renewals are ignored",
        _QUIET,
        mistakes.renewals_are_ignored,
        roots.refused,
        _only("stall"),
        1,
    ),
    Mutant(
        "demand is never low",
        ("gone_means_closed",),
        mistakes.demand_is_never_low,
        roots.refused,
        _only("calls"),
        1,
    ),
)

"""What a new version of a policy changes, in sentences for the audit."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from heatshield_alerts.policy.model import Policy

__all__ = ["differences"]

_LISTS: Final = ("never_calls", "never_users")
_FREE: Final = {"users_at_most": "as user_share says", "reject_at_once_over_s": "none"}


def differences(before: Policy, after: Policy) -> list[str]:
    """What ``after`` changes, a sentence each; empty: nothing.

    The order is that of the file: what rules may do, then limits by their place.
    """
    was, now = before.to_json(), after.to_json()
    return [
        *_of_rules(was["rules"], now["rules"]),
        *_of_limits(
            {one["id"]: one for one in was["limits"]}, {one["id"]: one for one in now["limits"]}
        ),
    ]


def _of_rules(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in _LISTS:
        yield from _of_list(f"rules.{name}", was[name], now[name])
    for name, value in was.items():
        if name not in (*_LISTS, "ladders") and value != now[name]:
            yield f"rules.{name}: {_said(name, value)} → {_said(name, now[name])}"
    ladders = [[f"{calls} → {ladder}" for calls, ladder in one["ladders"]] for one in (was, now)]
    yield from _of_list("rules.ladders", *ladders)


def _said(name: str, value: object) -> str:
    return _FREE.get(name, "none") if value is None else f"{value:g}"


def _of_list(name: str, was: list[str], now: list[str]) -> Iterator[str]:
    for one in _without(now, was):
        yield f"{name}: added {one!r}"
    for one in _without(was, now):
        yield f"{name}: removed {one!r}"
    if was != now and sorted(was) == sorted(now):
        yield f"{name}: another order"


def _without(those: Iterable[str], these: list[str]) -> list[str]:
    return [one for one in those if one not in these]


def _of_limits(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name, limit in now.items():
        if name not in was:
            yield f"limit {name}: added, {_text(limit)}"
            continue
        changed = [key for key in limit if limit[key] != was[name][key]]
        for key in changed:
            old, new = (one[key] if one[key] != "" else "every" for one in (was[name], limit))
            yield f"limit {name}: {key} {old} → {new}"
    for name, limit in was.items():
        if name not in now:
            yield f"limit {name}: removed, was {_text(limit)}"


def _text(limit: dict[str, Any]) -> str:
    about = [f"{name} {limit[name]}" for name in ("service", "call", "user") if limit[name]]
    said = f"{limit['rate_per_s']:g} {limit['unit']} a second per {limit['per']}"
    return ", ".join([said, *about])

"""Renders users by load, and breakers, as tables: values in, rich renderables out."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Group
from rich.text import Text

from heatshield.cli.answers import BreakerList, Entry, HotUser, HotUsers, NotCut
from heatshield.cli.fitting_table import Column, FittingTable
from heatshield.cli.terminal import HUNDRED, clock_time, number, text
from heatshield.cli.waterfall import bar
from heatshield.contract import BreakerMode, PlatformMode

__all__ = ["breaker_table", "hot_table", "load_text", "span_text"]

SHARE_BAR_WIDTH: Final = 8

NO_USER: Final = "(none)"
"""Stands for the requests that name no user; ``unknown`` may be a user's name."""

EVIDENCE_SHOWN: Final = 3
"""Hot users whose request is shown beneath the table: with more of them, the table matters more."""

HOT_COLUMNS: Final = (
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("load", drops=5, justify="right"),
    Column("share", drops=3, justify="right"),
    Column("usual", drops=2, justify="right"),
    Column("", drops=1),
    Column("class"),
    Column("breaker"),
    Column("done", drops=1, beneath=True),
)

BREAKER_COLUMNS: Final = (
    Column("id"),
    Column("user"),
    Column("service", drops=4),
    Column("call"),
    Column("mode"),
    Column("ends in"),
    Column("issuer", drops=3),
    Column("reason", drops=1, beneath=True),
)

CLASS_STYLES: Final = {
    "harmful": "bold red",
    "budget": "red",
    "hot": "bold yellow",
    "heavy": "yellow",
}


def hot_table(answer: HotUsers) -> Group:
    """Render users by load, and beneath them the commands that show hot users' requests.

    The bar shows the share: of the service's capacity for busy time, of the service's whole load
    for other costs. A load has the bounds of its sketch beside it only if they differ from it.
    """
    busy = answer["cost"] == "busy"
    table = FittingTable(
        HOT_COLUMNS,
        [_hot_row(user) for user in answer["users"]],
        title=text(
            f"users by {answer['cost']} load over {answer['window']}, "
            f"{clock_time(answer['at_ns'], '%H:%M:%S')} UTC"
        ),
        caption=text(f"capacity {answer['capacity']:g} workers" if busy else None),
    )
    return Group(table, *_evidence(answer["users"]))


def _evidence(users: Iterable[HotUser]) -> Iterator[Text]:
    """The commands that show hot users' costliest requests, with ids in full for copying."""
    shown = (user for user in users if user["class"] in {"harmful", "hot"} and user["trace_id"])
    for user in itertools.islice(shown, EVIDENCE_SHOWN):
        yield Text("heatshield request ", "dim", no_wrap=True).append_text(
            text(f"{user['trace_id']}  # {user['user']}")
        )


def _hot_row(user: HotUser) -> tuple[Text, ...]:
    style = CLASS_STYLES.get(user["class"] or "", "")
    return (
        text(NO_USER, "dim") if user["user"] is None else text(user["user"], style),
        text(user["service"]),
        text(user["call"]),
        text(load_text(user), style),
        text(f"{user['share']:.1%}"),
        text("" if user["baseline"] is None else number(user["baseline"])),
        text(bar(0, user["share"], 1, SHARE_BAR_WIDTH), style),
        text(user["class"], style),
        text(user["breaker"], "yellow"),
        text(user.get("done"), style),
    )


def load_text(user: HotUser) -> str:
    """Format a load; its bounds follow in brackets if they differ at this precision."""
    load, lower, upper = (_figure(user[name]) for name in ("load", "lower", "upper"))
    return load if lower == load == upper else f"{load} [{lower}, {upper}]"


def _figure(load: float) -> str:
    return f"{load:,.0f}" if load >= HUNDRED else f"{load:.2f}"


def breaker_table(answer: BreakerList) -> Group:
    """Render one row per breaker entry, with the version of the breaker state above, and beneath
    them the users whom alerts ask to cut and who are not.
    """
    shadow = answer["mode"] == PlatformMode.SHADOW
    table = FittingTable(
        BREAKER_COLUMNS,
        [_breaker_row(entry) for entry in answer["entries"]],
        title=text(
            f"breakers held: {len(answer['entries'])}, state {answer['epoch']}.{answer['version']}"
        ),
        caption=text(f"mode {answer['mode']}" + (": nothing is enforced" if shadow else "")),
    )
    refused = answer.get("not_cut", [])
    return Group(table, *_switched_off(answer), *(_not_cut(one) for one in refused))


def _switched_off(answer: BreakerList) -> tuple[Text, ...]:
    count = answer.get("not_enforcing", 0)
    thrown = f"{count} live instance{'s' * (count != 1)} enforce{'s' * (count == 1)} nothing:"
    return (text(f"{thrown} the local kill switch is thrown", "yellow"),) if count else ()


def _not_cut(user: NotCut) -> Text:
    about = f"{user['user']} on {user['call']} of {user['service']}: "
    return text(about, "bold").append_text(text(user["done"]))


def _ends_in(entry: Entry) -> str:
    """When an entry ends; one that a rule made may end sooner, by demand."""
    by_rule = str(entry.get("issuer", "")).startswith("rule:")
    return ("≤ " if by_rule else "") + span_text(entry.get("left_s", 0.0))


def span_text(seconds: float) -> str:
    """A span of time for people: ``45 s``, ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    parts = [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes)
    return " ".join(parts)


def _breaker_row(entry: Entry) -> tuple[Text, ...]:
    mode = entry["mode"]
    if mode == BreakerMode.TRICKLE:
        mode = f"{mode} {entry.get('rate_per_s', 0):g}/s"
    if mode == BreakerMode.PACE:
        mode = f"{mode} {entry.get('budget', 0):.2g} s/s"
    if entry.get("prober"):
        mode = f"{mode}, probing {entry.get('probe_per_s', 0):g}/s"
    return (
        text(entry["id"], "yellow"),
        text(entry["user"] or "all users", "bold"),
        text(entry["service"]),
        text(entry["call"] or "all calls"),
        text(mode),
        text(_ends_in(entry)),
        text(entry.get("issuer")),
        text(entry.get("reason")),
    )

"""Tables of the command line: what a row says, and the bar beside it."""

import io

import pytest
from rich.console import Console

from heatshield.cli.tables import breaker_table, hot_table, load_text, span_text


def user(name="u-1", load=1.5, **fields):
    return {
        "user": name,
        "service": "shop",
        "call": "POST /p",
        "load": load,
        "lower": load,
        "upper": load,
        "share": 0.25,
        "baseline": None,
        "class": None,
        "breaker": None,
        "trace_id": None,
        **fields,
    }


def hot_answer(*users, cost="busy", capacity=4.0):
    return {
        "cost": cost,
        "window": "10s",
        "at_ns": 1_700_000_000 * 10**9,
        "capacity": capacity,
        "users": list(users),
    }


def entry(**fields):
    return {
        "id": "b-8",
        "user": "u-1",
        "service": "shop",
        "call": "POST /p",
        "mode": "reject",
        "lease_ms": 30_000,
        "left_s": 885.2,
        "issuer": "rule:HarmfulUser",
        "reason": "burns 2 workers",
        **fields,
    }


def breaker_answer(*entries, mode="protect"):
    return {"epoch": 3, "version": 17, "mode": mode, "entries": list(entries)}


def rendered(renderable, width=140):
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def test_a_hot_user_shows_load_share_class_breaker_and_evidence():
    row = user(**{"class": "hot", "breaker": "b-8", "trace_id": "ab" * 8, "baseline": 0.25})
    output = rendered(hot_table(hot_answer(row)), 200)
    for part in ("users by busy load over 10s, 22:13:20 UTC", "capacity 4 workers", "1.50"):
        assert part in output
    for part in ("25.0%", "0.25", "hot", "b-8", "POST /p"):
        assert part in output
    assert f"heatshield request {'ab' * 8}  # u-1" in output


def test_evidence_is_shown_whole_on_a_narrow_screen_and_of_hot_users_alone():
    hot = user(**{"class": "hot", "trace_id": "ab" * 16})
    heavy = user("u-2", **{"class": "heavy", "trace_id": "cd" * 16})
    output = rendered(hot_table(hot_answer(hot, heavy)), 80)
    assert "ab" * 16 in output
    assert "cd" * 16 not in output


def test_requests_of_no_user_are_told_from_a_user_named_unknown():
    output = rendered(hot_table(hot_answer(user(None), user("unknown"))))
    assert "(none)" in output
    assert "unknown" in output


def test_the_bar_is_the_share():
    shown = rendered(hot_table(hot_answer(user(share=0.5), user("u-2", share=1.0))))
    assert [line.count("█") for line in shown.splitlines() if "shop" in line] == [4, 8]


def test_capacity_is_said_of_busy_time_only():
    assert "capacity 4 workers" in rendered(hot_table(hot_answer(user())))
    assert "capacity" not in rendered(hot_table(hot_answer(user(), cost="calls")))


def test_no_users_and_no_capacity_draw_an_empty_table():
    assert "users by busy load" in rendered(hot_table(hot_answer(capacity=0.0)))


@pytest.mark.parametrize(
    ("load", "lower", "upper", "expected"),
    [
        (1.5, 1.5, 1.5, "1.50"),
        (1.501, 1.499, 1.503, "1.50"),  # bounds that differ below what is shown are not shown
        (1.5, 1.25, 1.75, "1.50 [1.25, 1.75]"),
        (20_000, 20_000, 20_000, "20,000"),
    ],
)
def test_a_load_shows_its_bounds_only_where_they_matter(load, lower, upper, expected):
    assert load_text(user(load=load, lower=lower, upper=upper)) == expected


def test_a_breaker_shows_whom_it_cuts_by_whom_and_why():
    output = rendered(breaker_table(breaker_answer(entry())))
    for part in ("breakers held: 1, state 3.17", "mode protect", "b-8", "u-1", "shop", "POST /p"):
        assert part in output
    for part in ("reject", "≤ 14 min 45 s", "rule:HarmfulUser", "burns 2 workers"):
        assert part in output
    assert "nothing is enforced" not in output


def test_it_shows_what_is_done_about_each_hot_user_at_every_width():
    why = "not cut: systemic: more users would be cut than may be"
    refused = {"user": "u-2", "service": "shop", "call": "POST /p", "done": why}
    output = rendered(breaker_table({**breaker_answer(entry()), "not_cut": [refused]}), 200)
    assert "kill switch" not in output
    assert f"u-2 on POST /p of shop: {why}" in output
    hot = user("u-2", **{"class": "hot", "done": why})
    for width in (200, 80):
        assert why in rendered(hot_table(hot_answer(hot)), width)


def test_shadow_says_that_nothing_is_enforced_and_trickle_says_its_rate():
    output = rendered(
        breaker_table(breaker_answer(entry(mode="trickle", rate_per_s=2.5), mode="shadow"))
    )
    assert "mode shadow: nothing is enforced" in output
    assert "trickle 2.5/s" in output


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (900, "15 min")]
)
def test_a_span_of_time_is_rounded_for_people(seconds, expected):
    assert span_text(seconds) == expected


def test_hostile_names_never_reach_the_terminal_raw():
    hostile = "u\x1b[2J[red]"
    both = rendered(hot_table(hot_answer(user(hostile, **{"class": "\x1b"})))) + rendered(
        breaker_table(breaker_answer(entry(user=hostile, reason="\x9b")))
    )
    assert "\x1b" not in both
    assert "\x9b" not in both
    assert "u\\x1b[2J[red]" in both


def test_breakers_say_how_many_instances_enforce_nothing():
    """Their kill switch is thrown, so what is listed is not true of them."""
    output = rendered(breaker_table({**breaker_answer(entry()), "not_enforcing": 2}), 200)
    assert "2 live instances enforce nothing: the local kill switch is thrown" in output
    output = rendered(breaker_table({**breaker_answer(entry()), "not_enforcing": 1}), 200)
    assert "1 live instance enforces nothing" in output

"""What the demo shows while it runs: the event stream's lines, the scene, the views."""

import io

import pytest
from rich.console import Console

from heatshield_stickershop.demo.events import Event, EventLines
from heatshield_stickershop.demo.report import Expectation
from heatshield_stickershop.demo.scene import Scene
from heatshield_stickershop.demo.view import (
    LiveView,
    PlainView,
    render,
    result_table,
    verdicts,
    view_for,
)
from heatshield_stickershop.load import Sent
from heatshield_stickershop.platform import SERVICES
from heatshield_stickershop.population import HOT_USER

NOW_NS = 1_700_000_000 * 10**9
MS = 10**6

ENTRY = {"id": "b-1", "user": HOT_USER, "service": "shop", "call": "POST /purchases"}


def fed(text):
    lines = EventLines()
    return [event for line in text.split("\n") for event in lines.feed(line)]


def scene(mode="protect"):
    return Scene(mode, measured_from_ns=NOW_NS, ends_ns=NOW_NS + 20 * 10**9)


def request(due_ms, latency_ms=10.0, *, hot=False, status=200):
    user = HOT_USER if hot else "u-0001"
    return Sent(NOW_NS + due_ms * MS, latency_ms, status, user, hot, "purchase", None)


def event(kind, at_ms, /, **data):
    return Event(kind, {"at_ns": NOW_NS + at_ms * MS, **data})


def opened(change="opened"):
    return event("breaker", 450, change=change, entry=ENTRY, version="1.2")


def shown(renderable):
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_events_are_read_from_their_lines_and_comments_skipped():
    text = ': hello\nevent: mode\ndata: {"at_ns": 5,\ndata:  "mode": "shadow"}\nid: 4\n\n'
    assert fed(text) == [Event("mode", {"at_ns": 5, "mode": "shadow"})]


def test_an_unfinished_event_and_one_without_a_time_are_no_events():
    assert fed('event: mode\ndata: {"at_ns": 5}') == []
    assert fed("event: heartbeat\ndata: {}\n\n") == []


def test_recent_figures_are_of_others_requests_that_ended_within_two_seconds():
    stage = scene()
    for sent in (request(0, 100.0), request(1_950, 60.0), request(2_500, 30.0, status=502)):
        stage.add_sent(sent)
    stage.add_sent(request(2_500, 9_000.0, hot=True))
    recent = stage.recent(NOW_NS + 3_000 * MS)
    assert (recent.requests, recent.p50_ms, recent.p99_ms, recent.errors) == (2, 30.0, 60.0, 1)


def test_the_hot_users_coming_is_a_headline_once():
    stage = scene()
    assert HOT_USER in stage.add_sent(request(0, hot=True))
    assert stage.add_sent(request(50, hot=True)) is None


def test_a_breaker_is_held_from_its_opening_until_it_is_closed_and_times_count_from_the_hot_user():
    stage = scene()
    stage.add_sent(request(0, hot=True))
    assert stage.add_event(opened()).startswith("+0.45 s  breaker opened")
    assert stage.breakers["b-1"]["state"] == "opened"
    stage.add_event(opened("closed"))
    assert stage.breakers == {}


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("protect", ["is slowed to a fair share", "is refused", "is refused but for probes"]),
        ("shadow", ["would be slowed to a fair share", "would be refused", "would be refused but"]),
    ],
)
def test_headlines_say_that_the_user_is_slowed_first_and_refused_later(mode, said):
    stage = scene(mode)
    steps = [("opened", "pace"), ("escalated", "reject"), ("half_open", "reject")]
    for number, ((change, does), words) in enumerate(zip(steps, said, strict=True)):
        entry = ENTRY | {"mode": does}
        made = event("breaker", 450 + number, change=change, entry=entry, version="1.2")
        headline = stage.add_event(made)
        assert f"breaker {change}: {HOT_USER}, shop POST /purchases {words}" in headline
        assert words in shown(render(stage, NOW_NS))


def test_a_budget_that_changes_is_no_headline():
    stage = scene()
    for change, budget in (("opened", 0.1), ("renewed", 0.2)):
        entry = ENTRY | {"mode": "pace", "budget": budget}
        said = stage.add_event(event("breaker", 450, change=change, entry=entry, version="1.2"))
        assert (said is None) is (change == "renewed")
    assert stage.breakers["b-1"]["budget"] == 0.2


def test_a_refusal_that_names_no_entry_changes_nothing():
    stage = scene()
    stage.add_event(opened())
    assert stage.add_event(event("breaker", 500, change="refused", entry=None)) is None
    assert set(stage.breakers) == {"b-1"}


def test_enforcement_everywhere_is_a_headline_once_the_last_process_acknowledges():
    stage = scene()
    stage.add_sent(request(0, hot=True))
    stage.add_event(opened())
    said = [
        stage.add_event(event("applied", 500, service=name, instance="i", applied="1.2"))
        for name in (*SERVICES, SERVICES[0])
    ]
    assert said == [None, None, None, "+0.50 s  every service process enforces it", None]


def test_nothing_is_said_to_be_enforced_in_shadow():
    stage = scene("shadow")
    stage.add_sent(request(0, hot=True))
    stage.add_event(opened())
    for name in SERVICES:
        acknowledged = event("applied", 500, service=name, instance="i", applied="1.2")
        assert stage.add_event(acknowledged) is None


def test_an_alert_is_a_headline_when_its_state_changes_only():
    stage = scene()
    firing = event("alert", 300, name="HarmfulUser", state="firing", labels={"user": HOT_USER})
    assert "HarmfulUser firing" in stage.add_event(firing)
    assert stage.add_event(firing) is None
    overload = event("alert", 300, name="Overload", state="firing", labels={"resource": "redis"})
    assert stage.add_event(overload).endswith("alert Overload firing redis")


def test_the_screen_shows_latencies_loads_alerts_and_breakers():
    stage = scene()
    stage.add_sent(request(0, 12.5))
    stage.loads = [
        {"user": "u-7", "service": "shop", "call": "c", "load": 0.5, "share": 0.9, "class": "hot"}
    ]
    stage.add_event(event("alert", 300, name="HarmfulUser", state="firing", labels={"user": "u-7"}))
    stage.add_event(opened())
    text = shown(render(stage, NOW_NS + 500 * MS))
    for part in (
        "12.5 ms",
        "u-7",
        "0.50",
        "90%",
        "HarmfulUser firing",
        f"breaker opened: {HOT_USER}",
    ):
        assert part in text


def test_names_from_outside_reach_the_terminal_as_text_alone():
    stage = scene()
    entry = ENTRY | {"user": "[red]\x1b[2J"}
    stage.add_event(event("breaker", 450, change="opened", entry=entry, version="1.2"))
    text = shown(render(stage, NOW_NS))
    assert "\x1b" not in text
    assert "[red]" in text


def test_without_a_terminal_there_are_plain_lines_and_few_of_them():
    console = Console(file=io.StringIO(), width=200)
    view = view_for(console)
    assert isinstance(view, PlainView)
    with view.stage():
        for _ in range(50):
            view.show(scene())
        view.show(scene(), "a headline")
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert "a headline" in lines[-1]


def test_a_terminal_gets_a_live_screen():
    console = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(view_for(console), LiveView)


def test_the_table_shows_figures_with_units_and_a_dash_for_what_was_not_seen():
    report = {
        "shadow": {"others_p99_ms_before": 20.25, "others_error_rate_during": 0.015},
        "protect": {"others_p99_ms_before": 21.0, "detected_after_s": 0.412, "others_rejected": 0},
    }
    text = shown(result_table(report))
    for part in ("20.2 ms", "1.5%", "0.41 s", " 0 ", " - "):
        assert part in text


def test_a_verdict_says_what_was_found_and_whether_it_was_met():
    text = shown(verdicts([Expectation("a", 5.5, True), Expectation("b", None, False)]))
    assert "met" in text
    assert "a: 5.5" in text
    assert "NOT MET  b: not seen" in text


def test_a_busy_machine_makes_latencies_unclear_and_nothing_else():
    checked = [
        Expectation("a", 9.0, False),
        Expectation("b", 3, False, is_latency=False),
        Expectation("c", 5.5, True),
    ]
    text = shown(verdicts(checked, is_noisy=True))
    for line in ("unclear  a: 9", "NOT MET  b: 3", "met      c: 5.5"):
        assert line in text

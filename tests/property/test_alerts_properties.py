"""What holds of every alert over every history, against a slow and obvious reading of it."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from moments import at

from heatshield_alerts import AlertState, Labels, Sample, parse
from heatshield_alerts.rules import AlertRule, RuleTracker, Template
from heatshield_alerts.rules.state import RESOLVED_KEPT_S, TRANSITIONS
from heatshield_alerts.rules.template import TemplateError

STEPS_S = st.sampled_from([0.25, 0.5, 1.0, 3.0, 1_000.0])
HISTORIES = st.lists(st.tuples(STEPS_S, st.sets(st.sampled_from("abc"))), max_size=40)


def runs(for_s: float, keep_s: float, history: list) -> list:
    """(time, users the expression held for, transitions, states by user) of each evaluation."""
    tracker = RuleTracker(AlertRule("R", parse("load > 0"), for_s=for_s, keep_firing_for_s=keep_s))
    now, rows = 0.0, []
    for step_s, present in history:
        now += step_s
        vector = [Sample.of("load", {"user": user}, 1.0) for user in sorted(present)]
        moves = tracker.evaluate(vector, at(now))
        states = {alert.labels["user"]: alert for alert in tracker.alerts}
        rows.append((now, present, moves, states))
    return rows


@settings(max_examples=200)
@given(st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 0.5, 2.0]), HISTORIES)
def test_an_alert_walks_the_table_and_never_skips(for_s, keep_s, history):
    last: dict[Labels, AlertState] = {}
    for _, _, moves, states in runs(for_s, keep_s, history):
        for move in moves:
            labels = move.alert.labels
            assert last.get(labels, AlertState.INACTIVE) is move.before
            assert TRANSITIONS[move.before][move.event] is move.alert.state
            last[labels] = move.alert.state
        held = {labels: s for labels, s in last.items() if s is not AlertState.INACTIVE}
        assert held == {alert.labels: alert.state for alert in states.values()}


@settings(max_examples=200)
@given(st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 0.5, 2.0]), HISTORIES)
def test_the_state_is_what_an_obvious_reading_of_the_history_says(for_s, keep_s, history):
    """The reading looks back over the whole history at each step; it keeps no state of its own
    but since when it fires, which `for` and `keep_firing_for` are defined by."""
    fires = dict.fromkeys("abc", False)
    rows = runs(for_s, keep_s, history)
    for index, (now, _, _, states) in enumerate(rows):
        for user in "abc":
            present = [(at_s, user in seen) for at_s, seen, _, _ in rows[: index + 1]]
            fires[user] = _fires(present, now, for_s, keep_s, fired=fires[user])
            state = states[user].state if user in states else AlertState.INACTIVE
            assert (state is AlertState.FIRING) is fires[user]
            if not fires[user]:
                assert (state is AlertState.PENDING) is present[-1][1]


def _fires(present: list, now: float, for_s: float, keep_s: float, *, fired: bool) -> bool:
    since, held = now, present[-1][1]
    for at_s, seen in reversed(present):
        if seen is not held:
            break
        since = at_s
    if held:
        return fired or now - since >= for_s
    return fired and now - since < keep_s


@settings(max_examples=100)
@given(st.sampled_from([0.0, 2.0]), HISTORIES)
def test_resolved_comes_from_firing_alone_and_is_kept_a_while(keep_s, history):
    resolved_s: dict[str, float] = {}
    for now, present, moves, states in runs(0.0, keep_s, history):
        for move in moves:
            if move.alert.state is AlertState.RESOLVED:
                assert move.before is AlertState.FIRING
                resolved_s[move.alert.labels["user"]] = now
        for user, since_s in resolved_s.items():
            if user in present:
                continue
            if now - since_s <= RESOLVED_KEPT_S:
                assert states[user].state in (AlertState.RESOLVED, AlertState.FIRING)
            elif user in states:
                assert states[user].state is not AlertState.RESOLVED


@given(HISTORIES)
def test_the_times_of_an_alert_are_in_order(history):
    for now, _, _, states in runs(0.5, 0.5, history):
        for alert in states.values():
            times = [alert.active_at, alert.fired_at, alert.resolved_at]
            known = [moment for moment in times if moment is not None]
            assert all(earlier <= later for earlier, later in pairwise([*known, at(now)]))


@given(
    st.text(alphabet='{}$ .|"`%abvlue-labelsprintfhumanize\\0123456789', max_size=40),
    st.text(max_size=10),
    st.floats(),
)
def test_a_template_that_loads_renders_for_every_user_and_value(text, user, value):
    """An alert can't fail because of what a user calls himself."""
    try:
        template = Template(text)
    except TemplateError:
        return
    assert isinstance(template.render({"user": user, "a": user}, value), str)


PIECES = st.sampled_from(
    [
        "{{ $labels.user }}", "{{ $value }}", "{{ $value | humanize }}",
        "{{ printf `%.2f` $value }}",
        "{{ printf `%5s|%v` $labels.user $value }}", "{{ $value | humanizeDuration }}",
        "{{- $value -}}", "{{ $labels.user | toUpper | printf `%s` }}", " text ", "%s { ",
        "{{ $value | humanizePercentage }}", "{{ printf `%8.3g%%%e` $value $value }}",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=6).map("".join), st.text(max_size=10), st.floats())
def test_every_supported_piece_renders_for_every_user_and_value(text, user, value):
    assert isinstance(Template(text).render({"user": user}, value), str)

"""Windows against a plain list of what was added when."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from heatshield.clock import ManualClock
from heatshield_collector.detect.windows import PANE_S, WINDOWS_S, Windows

SHORTFALL_S = {"1s": 0.25, "10s": 1.0, "1m": 10.0, "5m": 10.0}
"""How much shorter than its name a window may be, as its module says."""

TEN_S = 10.0

KEYS = ("a", "b", "c")

# Sixty-fourths of a second are exact in binary, so edges of panes are really met.
pauses = st.one_of(
    st.just(0),
    st.integers(1, 16),
    st.sampled_from([16, 64, 640, 16 * 39, 64 * 9]),
    st.integers(1, 64 * 12),
    st.sampled_from([64 * 60, 64 * 299, 64 * 300, 64 * 301, 64 * 1_000]),
).map(lambda ticks: ticks / 64)

additions = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 1_000)), max_size=3)
history = st.lists(st.tuples(pauses, additions, st.booleans()), min_size=1, max_size=40)


class Naive:
    """Windows by keeping everything."""

    def __init__(self):
        self.rows = []

    def weights(self, since_s, until_s):
        """By key, of what was added after ``since_s`` and up to ``until_s``."""
        found = Counter()
        for at_s, key, weight in self.rows:
            if since_s < at_s <= until_s:
                found[key] += weight
        return found

    def closed_tens(self, now_s):
        found = Counter()
        for at_s, key, weight in self.rows:
            if now_s // TEN_S - 30 <= at_s // TEN_S < now_s // TEN_S:
                found[key] += weight
        return found


def lived(steps, check, lg_slots=12):
    """Run a history against both, calling ``check`` wherever it asks, and at its end."""
    clock, windows, naive = ManualClock(), Windows(lg_slots), Naive()
    windows.add([], [], clock.monotonic())
    for pause_s, rows, asked in [*steps, (0.0, [], True)]:
        clock.advance(pause_s)
        now_s = clock.monotonic()
        summed = Counter()
        for key, weight in rows:
            summed[key] += weight
        windows.add(list(summed), list(summed.values()), now_s)
        naive.rows += [(now_s, key, weight) for key, weight in rows]
        if asked:
            check(windows, naive, now_s)


def assert_within(windows, naive, now_s):
    for name, length_s in WINDOWS_S.items():
        answered_s = now_s if name == "1s" else now_s - PANE_S
        most = naive.weights(now_s - length_s, now_s)
        least = naive.weights(now_s - length_s + SHORTFALL_S[name], answered_s)
        seen = windows.window(name, now_s)
        assert seen.total <= most.total()
        assert windows.most(name, now_s) >= max(seen.bounds(key).lower for key in KEYS)
        assert windows.most(name, now_s) <= most.total()
        for key in KEYS:
            found = seen.bounds(key)
            assert found.lower <= most[key], (name, key)
            assert found.upper >= least[key], (name, key)


@given(history)
def test_no_window_overstates_or_loses_what_is_younger_than_its_shortfall(steps):
    """Whatever the pauses, silences longer than all windows among them."""
    lived(steps, assert_within)


@given(history)
def test_bounds_hold_over_windows_of_sketches_that_overflow(steps):
    """Many keys of little weight make eight slots forget; the three keys' bounds still hold."""
    noise = [(f"noise {number}", 1) for number in range(20)]
    noisy = [(pause_s, rows + noise, asked) for pause_s, rows, asked in steps]
    lived(noisy, assert_within, lg_slots=3)


@given(history)
def test_the_baseline_is_the_closed_tens_alone(steps):
    """What the last seconds brought is not in what it is compared with."""

    def check(windows, naive, now_s):
        sketch, covered_s = windows.baseline(now_s)
        expected = naive.closed_tens(now_s)
        assert sketch.total == expected.total()
        for key in KEYS:
            assert sketch.bounds(key).estimate == expected[key]
        assert covered_s == TEN_S * min(now_s // TEN_S - 1_000 // TEN_S, 30)

    lived(steps, check)


@given(history, st.floats(0, 400))
def test_a_clock_that_seems_to_go_back_loses_and_overstates_nothing(steps, back_s):
    """Writers and readers take the time before they take the lock, so they may overtake."""

    def check(windows, naive, now_s):
        windows.add(["late"], [7], now_s - back_s)
        assert windows.window("1s", now_s).bounds("late").estimate >= 7
        assert_within_for_late(windows, now_s - back_s)

    def assert_within_for_late(windows, earlier_s):
        for name in WINDOWS_S:
            assert windows.window(name, earlier_s).total >= 0

    lived(steps[:10], check)


def test_five_minutes_of_silence_leave_nothing_behind_but_the_length_of_the_baseline():
    windows = Windows()
    windows.add(["a"], [5], 1_000.0)
    assert windows.window("5m", 1_280.0).bounds("a").estimate == 5
    assert all(windows.window(name, 1_310.0).total == 0 for name in WINDOWS_S)
    sketch, covered_s = windows.baseline(1_320.0)
    assert (sketch.total, covered_s) == (0, 300.0)


def test_a_steady_load_reads_as_itself_and_never_as_more():
    """One unit each pane for six minutes; loads divide by the window's name."""
    windows = Windows()
    for pane in range(6 * 60 * 4):
        windows.add(["a"], [1], 1_000.0 + pane * PANE_S)
    now_s = 1_000.0 + 6 * 60 - PANE_S
    for name, length_s in WINDOWS_S.items():
        load = windows.window(name, now_s).bounds("a").estimate / length_s
        assert 4.0 * (1 - SHORTFALL_S[name] / length_s) <= load <= 4.0

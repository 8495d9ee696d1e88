"""What detection knows over a restart: baselines as they were, and nothing from what is damaged."""

from itertools import pairwise

import pytest
from charge_rows import charge, linked
from hypothesis import given
from hypothesis import strategies as st

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_collector.detect import Detection
from heatshield_collector.detect.detectors import TOO_OLD_S
from heatshield_collector.detect.kept_state import MOST_BYTES, decode, encode

KEY = CallKey(DEFAULT_TENANT, "u-1", "shop", "POST /p")


def at(seconds):
    return Instant(seconds, round(seconds * 1e9))


def worked(seconds=300, busy_ms=200, start_s=10_000.0):
    """Detection after so many seconds of a user's work; and the moment."""
    detection = Detection(lambda _: 8.0)
    for second in range(seconds):
        rows = [charge("u-1", busy_ms, trace=second + 1), charge(f"u-{second}", 5)]
        detection.observe(linked(rows), at(start_s + second))
    return detection, at(start_s + seconds)


def kept_of(seconds):
    before, now = worked(seconds)
    return before.state(now)


def restored(state, now, age_s=20.0):
    detection = Detection(lambda _: 8.0)
    detection.restore(state, age_s, now)
    return detection


def test_a_baseline_is_the_same_after_a_restart_on_a_clock_of_its_own():
    before, now = worked()
    after = restored(before.state(now), at(17.0))
    assert before.loads.baseline_of(KEY, now.monotonic_s) == pytest.approx(0.2, rel=0.05)
    assert after.loads.baseline_of(KEY, 17.0) == pytest.approx(0.2, rel=0.05)


def test_a_short_history_is_not_taken_for_five_minutes_of_little():
    before, now = worked(60)
    after = restored(before.state(now), at(17.0))
    assert after.loads.baseline_of(KEY, 17.0) == pytest.approx(0.2, rel=0.05)


def test_what_was_before_the_restart_leaves_the_baseline_as_time_passes():
    before, now = worked()
    after = restored(before.state(now), at(5.0))
    seen = []
    for second in range(0, 400, 10):
        after.observe(linked([charge("u-2", 1)]), at(5.0 + second))
        seen.append(after.loads.baseline_of(KEY, 5.0 + second))
    assert all(later <= sooner + 1e-9 for sooner, later in pairwise(seen))
    assert seen[15] == pytest.approx(0.1, rel=0.35), "half of it is from before"
    assert seen[-1] == 0.0


def test_windows_are_of_what_comes_from_now_on():
    before, now = worked()
    after = restored(before.state(now), at(17.0))
    for window in ("1s", "10s", "1m", "5m"):
        assert after.loads.load_of(KEY, window, 17.0).upper == 0.0


def test_a_user_s_usual_load_is_usual_right_after_a_restart():
    """Without a baseline everybody who works would be hot in the first minute."""
    before, now = worked(busy_ms=900)
    work = [charge("u-1", 45, trace=10**6 + n) for n in range(20)]
    new, known = Detection(lambda _: 8.0), restored(before.state(now), at(100.0))
    for detection in (new, known):
        detection.observe(linked(work), at(100.0))
    assert [one.klass for one in new.evaluate(at(100.0))] == ["hot"]
    assert known.evaluate(at(100.0)) == []


def test_a_second_restart_keeps_what_the_first_one_kept():
    before, now = worked()
    once = restored(before.state(now), at(50.0))
    twice = restored(once.state(at(51.0)), at(9.0))
    assert twice.loads.baseline_of(KEY, 9.0) == pytest.approx(0.2, rel=0.05)


def test_what_is_too_old_is_not_known():
    before, now = worked(30)
    with pytest.raises(ValueError, match="minutes old"):
        restored(before.state(now), at(17.0), TOO_OLD_S + 1)


def test_its_size_is_bounded_by_sections(caplog):
    assert decode(encode({"a": b"x", "b": bytes(MOST_BYTES + 1)})) == {"a": b"x"}
    before, now = worked(30)
    detection = Detection(lambda _: 8.0)
    for number in range(40):
        rows = [charge("u" * 500 + f"{number}-{n}", 5) for n in range(300)]
        detection.observe(linked(rows), at(1_000.0 + 10 * number))
    assert len(detection.state(at(1_400.0))) < MOST_BYTES + 100
    assert not caplog.records
    del before, now


class Learner:
    """A detector that remembers a word."""

    kept_as = "word"

    def __init__(self, word):
        self.word, self.age_s = word, None

    def observe(self, linked, instant):  # noqa: ARG002 - of the protocol
        return False

    def evaluate(self, instant):  # noqa: ARG002 - of the protocol
        return []

    def state(self, instant):  # noqa: ARG002 - of the protocol
        return self.word.encode()

    def restore(self, state, age_s, instant):  # noqa: ARG002 - of the protocol
        if state == b"broken":
            raise ValueError("it is broken")
        self.word, self.age_s = state.decode(), age_s


def with_learner(word):
    learner = Learner(word)
    return Detection(lambda _: 8.0, detectors=lambda *_: [learner]), learner


def test_what_a_detector_remembers_goes_with_it_and_is_told_its_age():
    before, _ = with_learner("learned")
    after, learner = with_learner("new")
    assert after.restore(before.state(at(5.0)), 12.5, at(1.0)) == 0.0
    assert (learner.word, learner.age_s) == ("learned", 12.5)


def test_for_how_long_what_is_usual_is_known_is_told_if_all_of_it_is():
    for word, known_s in (("learned", 30.0), ("broken", 0.0)):
        before, _ = with_learner(word)
        for second in range(0, 31, 10):
            before.observe(linked([charge("u-1", 100)]), at(1_000.0 + second))
        after, _ = with_learner("new")
        assert after.restore(before.state(at(1_030.0)), 5.0, at(1.0)) == known_s
    loads_alone = Detection(lambda _: 8.0, detectors=lambda *_: [])
    assert loads_alone.restore(before.state(at(1_030.0)), 5.0, at(1.0)) == 0.0


def test_a_part_that_can_t_be_read_is_logged_and_the_others_are_restored(caplog):
    before, _ = with_learner("broken")
    before.observe(linked([charge("u-1", 100)]), at(1_000.0))
    after, learner = with_learner("new")
    after.restore(before.state(at(1_020.0)), 12.5, at(1.0))
    assert learner.word == "new"
    assert after.loads.baseline_of(KEY, 1.0) > 0
    assert "word: it is broken" in caplog.text


KEPT = kept_of(15)


@given(st.binary(max_size=60), st.integers(0, 10**6))
def test_whatever_was_damaged_raises_one_error_or_is_left_alone(noise, cut):
    state = KEPT
    for damaged in (noise, state[: cut % len(state)], state[:-4] + noise):
        detection = Detection(lambda _: 8.0)
        try:
            detection.restore(damaged, 1.0, at(1.0))
        except ValueError:
            continue
        detection.observe(linked([charge("u-1", 5)]), at(2.0))
        assert detection.loads.baseline_of(KEY, 30.0) >= 0

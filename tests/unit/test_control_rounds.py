"""The rounds of the control thread: when they are, and that one that fails is not the last."""

from control_platform import Platform
from moments import PassingClock

from heatshield.clock import Instant
from heatshield_alerts.rules import RuleRunner
from heatshield_collector.control.loop import EARLY_GAP_S, ControlLoop
from heatshield_collector.detect import PANE_S

NOW = Instant(1.0, 1)


class Faulty(ControlLoop):
    def __init__(self):
        self.failures = self.failed_in_a_row = 0
        self.broken = True
        self._breakers = Platform().breakers

    def round(self, *_, **__):
        if self.broken:
            raise ZeroDivisionError


def test_rounds_that_fail_in_a_row_are_counted_until_one_succeeds():
    loop = Faulty()
    for _ in range(3):
        loop.attempt(NOW)
    assert (loop.failures, loop.failed_in_a_row) == (3, 3)
    loop.broken = False
    loop.attempt(NOW)
    assert (loop.failures, loop.failed_in_a_row) == (3, 0)


class Rounds(ControlLoop):
    """A loop whose rounds are only noted; every second one is followed by a wake."""

    def __init__(self, most):
        self.clock, self.rounds, self.most = PassingClock(), [], most
        super().__init__(None, RuleRunner([]), Platform().breakers, None, self.clock, 0.0)

    def round(self, now, *, early=False):
        self.rounds.append((now, early))
        if len(self.rounds) >= self.most:
            self.stop_at_once()
        elif len(self.rounds) % 2:
            self.wake()

    def stop_at_once(self):
        self._ended.set()


def test_the_thread_waits_on_the_clock_and_each_round_is_stamped_by_it():
    loop = Rounds(most=4)
    loop._run()
    regular, early = [PANE_S], [PANE_S, EARLY_GAP_S]
    assert loop.clock.waits == [*regular, *early, *regular, *early, *regular]
    first, second, third, fourth = [now.monotonic_s for now, _ in loop.rounds]
    assert [early for _, early in loop.rounds] == [False, True, False, True]
    assert (first, second) == (PANE_S, PANE_S), "woken: at once"
    assert third == PANE_S + EARLY_GAP_S + PANE_S
    assert fourth == third
    start = PassingClock().time_ns()
    assert all(now.epoch_ns == start + round(now.monotonic_s * 1e9) for now, _ in loop.rounds)

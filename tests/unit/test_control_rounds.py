"""A round of evaluation that fails is seen, and is not the last one."""

from heatshield_collector.control.loop import ControlLoop


class Faulty(ControlLoop):
    def __init__(self):
        self.failures = self.failed_in_a_row = 0
        self.broken = True

    def round(self, **_):
        if self.broken:
            raise ZeroDivisionError


def test_rounds_that_fail_in_a_row_are_counted_until_one_succeeds():
    loop = Faulty()
    for _ in range(3):
        loop.attempt()
    assert (loop.failures, loop.failed_in_a_row) == (3, 3)
    loop.broken = False
    loop.attempt()
    assert (loop.failures, loop.failed_in_a_row) == (3, 0)

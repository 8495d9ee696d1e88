"""While a change waits for the disk nobody else waits, and nobody sees what is not on it yet."""

import threading
from contextlib import contextmanager

import pytest
from control_platform import BASE, Platform

from heatshield.contract import BreakerMode, PlatformMode, Rejections, Report, StateVersion
from heatshield.rejection import BreakerOpen
from heatshield_collector.gateways.checks import Checks, Question
from heatshield_collector.ports import TripRequest

GIVE_UP_S = 10.0
"""Real seconds after which a thread that waits counts as stuck; none is slept through."""


def trip(user):
    return TripRequest(user, "shop", "POST /p", BreakerMode.REJECT, issuer="human:ana")


class SlowDisk:
    """A platform whose disk takes a write and does not end it before it is told to."""

    def __init__(self):
        self.platform = Platform()
        self.breakers = self.platform.breakers
        self.first = self.breakers.trip(trip("u"))
        self._keep = self.breakers._keep_state
        self.writes = threading.Event()
        self.written = threading.Event()
        self.breakers._keep_state = self._write

    def _write(self, *state):
        self.writes.set()
        assert self.written.wait(GIVE_UP_S)
        self._keep(*state)

    @contextmanager
    def changing(self, *users):
        """These users are tripped, each by a person of their own, and the disk does not end."""
        people = [threading.Thread(target=self.breakers.trip, args=(trip(u),)) for u in users]
        for person in people:
            person.start()
        assert self.writes.wait(GIVE_UP_S)
        yield
        self.written.set()
        for person in people:
            person.join(GIVE_UP_S)
            assert not person.is_alive()


def asked(question):
    """What a question is answered, on a thread of its own."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    thread.start()
    thread.join(GIVE_UP_S)
    assert not thread.is_alive(), "it waits for the disk"
    return answers[0]


@pytest.fixture
def slow():
    return SlowDisk()


def refusal(slow):
    checks = Checks(slow.breakers, slow.platform.clock)

    def ask(user):
        found = checks.refusal(Question("shop", user, "POST /p"))
        assert found is None or isinstance(found, BreakerOpen)
        return found is not None

    return ask


def test_streams_and_snapshots_are_answered_with_what_was_announced_last(slow):
    breakers = slow.breakers
    with slow.changing("v"):
        assert asked(breakers.at) == StateVersion(3, 1)
        assert asked(breakers.snapshot).entries == (slow.first,)
        assert asked(lambda: breakers.delta_since(StateVersion(3, 1))) is None
        assert asked(lambda: breakers.delta_since(BASE)).upsert == (slow.first,)
        assert asked(breakers.mode) is PlatformMode.PROTECT
        assert [entry for _, _, entry in asked(breakers.held)] == [slow.first]
        assert asked(breakers.left_s)
    assert breakers.at() == StateVersion(3, 2)
    assert [entry.user for entry in breakers.snapshot().entries] == ["u", "v"]
    assert [entry.user for entry in breakers.delta_since(StateVersion(3, 1)).upsert] == ["v"]


def test_gateways_are_answered_meanwhile(slow):
    refuses = refusal(slow)
    assert refuses("u")
    with slow.changing("v"):
        assert asked(lambda: refuses("u"))
        assert not asked(lambda: refuses("v"))
    assert refuses("v")


def test_reports_and_spans_are_taken_in_meanwhile(slow):
    breakers, entry = slow.breakers, slow.first
    row = Rejections(entry.id, 3, entry.user, entry.service, entry.call)
    report = Report("shop", "i-1", 1, StateVersion(3, 1), (row,), 1)
    with slow.changing("v"):
        assert asked(lambda: breakers.report(report)).at == StateVersion(3, 1)
        asked(lambda: breakers.count_refused([row]))
        asked(lambda: breakers.attend("shop", "i-2", 4))
        assert asked(breakers.behind) == 1  # the one that has only sent spans
        assert asked(breakers.count_workers(slow.platform.clock.now()).copy)
    assert slow.platform.rejected == [("shop", "POST /p", 3)] * 2
    assert breakers._control.held[0].demand.rejected_per_s(slow.platform.clock.monotonic()) == 6


def test_changes_are_made_one_after_the_other_and_each_is_written_before_it_is_announced(slow):
    announced = []
    slow.breakers.subscribe(lambda: announced.append(slow.breakers.at()))
    with slow.changing("v", "w", "x"):
        assert announced == []
    assert announced == [StateVersion(3, version) for version in (2, 3, 4)]
    versions = [row["version"] for row in slow.platform.journal.of("audit")]
    assert versions == ["3.1", "3.2", "3.3", "3.4"]

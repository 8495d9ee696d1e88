"""What a caller learns of where calls live, and how much of it it keeps."""

import threading

import pytest
from opentelemetry.trace import INVALID_SPAN, get_tracer

import heatshield
from heatshield.breakers.caller_gate import LEARNED_S, MAX_PLACES, CallerGate, Place
from heatshield.breakers.lease_table import BreakerTable
from heatshield.clock import ManualClock
from heatshield.context.request import Request
from heatshield.contract import BreakerEntry, BreakerMode, PlatformMode, Snapshot, StateVersion
from heatshield.integrations.admission import admit
from heatshield.rejection import marked_by

MARKS = {"heatshield-breaker": "b-1", "heatshield-breaker-at": "call", "retry-after": "7"}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def gate(clock, service):
    """A gate whose table rejects u-cut's ``GET /a/{rest:path}`` of another service."""
    service()
    table = BreakerTable("shop")
    entry = BreakerEntry("b-1", "u-cut", "third", "GET /a/{rest:path}")
    table.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (entry,)), clock.monotonic())
    made = CallerGate()
    made.install(table, clock)
    return made


@pytest.fixture(autouse=True)
def _cut_user_acts(gate):
    with get_tracer("t").start_as_current_span("serve"), heatshield.user("u-cut"):
        yield


def place(path="/a/x", method="GET", address="third:80"):
    return Place(address, method, path)


def test_without_entries_or_a_table_nothing_is_asked(clock):
    gate = CallerGate()
    assert gate.idle
    gate.install(BreakerTable("shop"), clock)
    assert gate.idle


def test_a_place_is_refused_once_it_was_learned(gate, clock):
    assert not gate.idle
    assert gate.refusal(place()) is None
    gate.learn(place(), MARKS)
    refusal = gate.refusal(place())
    assert (refusal.entry_id, refusal.retry_after_s) == ("b-1", 10.0)
    assert not refusal.at_call  # whoever asked this process, asked for another call
    clock.advance(LEARNED_S)
    assert gate.refusal(place()) is None


@pytest.mark.parametrize(
    ("learned", "asked", "same"),
    [
        ("/a/7", "/a/8", True),
        ("/a/7/b/9", "/a/8/b/10", True),
        ("/a/7b15e92c-0d33-4a5b-9c1e-0d5a4b7d8e11", "/a/7", True),
        ("/a/7", "/a/me", False),
        ("/a/me", "/a/7", False),
        ("/a/me", "/a/you", False),
        ("/a/v1", "/a/v2", False),
        ("/a/7", "/a/7/", False),
        ("/a/7", "/a//7", False),
        ("/a/7", "/a/7/8", False),
        ("/a/7", "/A/7", False),
    ],
)
def test_only_numbers_and_uuids_of_a_path_may_differ(gate, learned, asked, same):
    gate.learn(place(learned), MARKS)
    assert (gate.refusal(place(asked)) is not None) is same


def test_another_method_or_address_is_another_place(gate):
    gate.learn(place(), MARKS)
    assert gate.refusal(place(method="POST")) is None
    assert gate.refusal(place(address="third:81")) is None


def test_what_does_not_fit_the_entrys_call_is_not_learned(gate):
    gate.learn(place("/gate"), MARKS)
    assert gate.refusal(place("/gate")) is None
    gate.learn(place(method="POST"), MARKS)
    assert gate.refusal(place(method="POST")) is None


def test_the_place_that_was_learned_first_is_forgotten_first(gate):
    for number in range(MAX_PLACES):
        gate.learn(place(f"/a/x{number}"), MARKS)
    gate.learn(place("/a/x0"), MARKS)  # anew
    gate.learn(place("/a/one-more"), MARKS)
    assert gate.refusal(place("/a/x1")) is None
    assert gate.refusal(place("/a/x0")) is not None
    assert gate.refusal(place("/a/one-more")) is not None


def test_an_error_lets_the_call_travel_and_is_counted(gate, monkeypatch):
    gate.learn(place(), MARKS)
    monkeypatch.setattr(gate._table, "decide_for", None)
    before = heatshield.status()["errors"].get("caller gate", 0)
    assert gate.refusal(place()) is None
    assert heatshield.status()["errors"]["caller gate"] == before + 1


def test_threads_may_learn_at_the_same_time(gate):
    def learn(start):
        for number in range(start, start + 2 * MAX_PLACES):
            gate.learn(place(f"/a/x{number}"), MARKS, "u-cut")

    threads = [threading.Thread(target=learn, args=(start,)) for start in range(0, 40_000, 10_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gate._known) == MAX_PLACES


@pytest.mark.parametrize(("mode", "says"), [(BreakerMode.REJECT, "call"), (BreakerMode.PACE, None)])
def test_a_service_says_so_where_it_rejects_and_not_where_it_paces(service, mode, says):
    """A paced user's next call may run."""
    made = service()
    made.trip("u-1", "GET /p", mode=mode, budget=0.001, cost_per_call=1.0)
    request = Request()
    request.user = "u-1"
    answers = [admit(request, INVALID_SPAN, "GET /p") for _ in range(9)]
    refusals = [answer for answer in answers if answer is not None]
    assert refusals
    assert {refusal.headers.get("heatshield-breaker-at") for refusal in refusals} == {says}


def test_what_is_passed_on_does_not_say_so(service):
    service()
    assert "heatshield-breaker-at" not in marked_by(MARKS).headers

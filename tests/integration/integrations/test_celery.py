"""Celery with real workers: spans, users, refusals; and that no refused task is retried."""

# long: all tests share one worker of Celery, which takes two seconds to end

from contextlib import contextmanager
from contextvars import copy_context

import celery
import httpx
import pytest
from celery import chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.contrib.testing.worker import test_worker_started as worker_started
from celery.exceptions import TaskRevokedError
from celery.signals import setup_logging
from celery.worker import state as worker_state
from opentelemetry.context import attach
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import heatshield
from heatshield.context.request import Request, request_in, with_request
from heatshield.contract import BreakerMode
from heatshield.integrations.messaging.celery_tasks import POSTPONED, pause_s
from heatshield.names import COST_ELEMENTS, REJECTED

RESULT_S = 10

RETRIED = {"autoretry_for": (Exception,), "max_retries": 3, "default_retry_delay": 0}
TASKS = {
    "buy": {},
    "refresh": RETRIED,
    "flaky": RETRIED,
    "expected": {"throws": (KeyError,)},
    "quiet": {"ignore_result": True},
    "inner": {},
    "errback": {},
}


def application():
    """An application whose messages and results stay in this process; its tasks do as ``does``."""
    made = celery.Celery(
        "shop", broker="memory://", backend="cache+memory://", set_as_current=False
    )
    made.conf.update(
        worker_redirect_stdouts=False, broker_transport_options={"polling_interval": 0.01}
    )
    made.does = {}
    for name, options in TASKS.items():
        made.task(_body(made, name), name=name, bind=True, typing=False, shared=False, **options)
    return made


def _body(made, name):
    def body(task, *args, **kwargs):
        return made.does[name](task, *args, **kwargs)

    body.__name__ = name
    return body


@contextmanager
def working(app):
    """A worker in a thread. It takes two seconds to end."""
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield


@pytest.fixture(scope="module")
def _shared():
    setup_logging.connect(_leave_logging_alone)  # other tests' is not Celery's to set up
    made = application()
    with working(made):
        yield made
    setup_logging.disconnect(_leave_logging_alone)


def _leave_logging_alone(**_):
    pass


@pytest.fixture
def app(_shared, until):
    """An application with a worker that was there before it was instrumented."""
    yield _shared
    until(lambda: not worker_state.active_requests and not worker_state.reserved_requests)
    _shared.does.clear()


def result_of(sent):
    return sent.get(timeout=RESULT_S, interval=0.01)


def as_user(user, function, *args, **kwargs):
    """Call a function within a request of this user."""

    def call():
        attach(with_request(Request(user=user)))
        return function(*args, **kwargs)

    return copy_context().run(call)


def both_ends(made, task):
    (publish,) = [span for span in made.spans if span.name == f"publish {task}"]
    (run,) = [span for span in made.spans if span.name == f"celery {task}"]
    return publish, run


def test_a_task_has_two_spans_of_one_trace_with_its_user(service, until, app):
    made = service()
    seen = []

    def buy(_task, ids, *, page):
        seen.append((get_current_span().name, request_in().user))
        return len(ids) + page

    app.does["buy"] = buy
    sent = as_user("u-7", app.tasks["buy"].delay, [1, 2, 3], page=4)
    assert result_of(sent) == 7
    until(lambda: len(made.spans) == 2)
    assert seen == [("celery buy", "u-7")]
    publish, run = both_ends(made, "buy")
    assert (publish.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert (run.trace_id, run.parent_id) == (publish.trace_id, publish.span_id)
    assert (publish.user, run.user, run.call) == ("u-7", "u-7", "celery buy")
    assert run.attributes[COST_ELEMENTS] == 3
    assert run.attributes["messaging.destination.name"] == "celery"
    assert run.attributes["messaging.message.id"] == sent.id
    assert publish.attributes["messaging.message.id"] == sent.id
    assert publish.status_code is run.status_code is StatusCode.UNSET


def test_a_task_that_the_producer_does_not_know_leaves_no_span_behind(service, until, app):
    """OpenTelemetry's would stay the current one, and never end."""
    made = service()
    before = get_current_span()
    app.send_task("elsewhere.unknown")
    assert get_current_span() is before
    app.does["buy"] = lambda _task: None
    result_of(app.tasks["buy"].delay())
    until(lambda: len(made.spans) == 3)
    unknown, publish, run = made.spans
    assert unknown.name == "publish elsewhere.unknown"
    assert publish.trace_id == run.trace_id != unknown.trace_id


def test_a_header_may_name_the_user(service, until, app):
    made = service(user_header="X-User-Id")
    app.does["buy"] = lambda _task: request_in().user
    assert result_of(app.tasks["buy"].apply_async(headers={"x-user-id": "u-9"})) == "u-9"
    until(lambda: len(made.spans) == 2)
    assert both_ends(made, "buy")[1].user == "u-9"


def test_tasks_that_send_tasks_are_one_trace(service, until, app):
    made = service()
    inner, buy = app.tasks["inner"], app.tasks["buy"]
    app.does["inner"] = lambda _task, number: number + 1
    app.does["buy"] = lambda _task: inner.delay(1) and None
    result_of(as_user("u-7", buy.delay))
    until(lambda: len(made.spans) == 4)
    assert result_of(as_user("u-7", chain(inner.s(1), inner.s(), inner.s()).apply_async)) == 4
    until(lambda: len(made.spans) == 10)
    assert len({span.trace_id for span in made.spans[:4]}) == 1
    assert len({span.trace_id for span in made.spans[4:]}) == 1
    assert {span.user for span in made.spans} == {"u-7"}


# -- errors ----------------------------------------------------------------------------------------


def raising(error):
    def body(_task):
        raise error

    return body


def test_errors_are_said_on_the_span_and_expected_ones_are_none(service, until, app):
    made = service()
    app.does["buy"] = raising(ValueError("no stock"))
    app.does["expected"] = raising(KeyError("sold out"))
    for name in ("buy", "expected"):
        with pytest.raises((ValueError, KeyError)):
            result_of(app.tasks[name].delay())
    until(lambda: len(made.spans) == 4)
    failed = both_ends(made, "buy")[1]
    assert failed.status_code is StatusCode.ERROR
    assert [event.attributes["exception.message"] for event in failed.events] == ["no stock"]
    assert both_ends(made, "expected")[1].status_code is StatusCode.UNSET


def test_a_task_that_can_not_be_sent_is_an_error(service, app):
    made = service()
    with pytest.raises(Exception, match="JSON"):
        app.tasks["buy"].delay(object())
    (span,) = made.spans
    assert (span.name, span.status_code) == ("publish buy", StatusCode.ERROR)
    assert get_current_span() is not span


def test_each_try_of_a_task_is_a_span_of_its_own(service, until, app):
    made = service()
    tries = []

    def flaky(_task):
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("try again")
        return "done"

    app.does["flaky"] = flaky
    assert result_of(as_user("u-7", app.tasks["flaky"].delay)) == "done"
    until(lambda: len(made.spans) == 6)
    runs = [span for span in made.spans if span.name == "celery flaky"]
    runs.sort(key=lambda span: span.start_time)
    assert [span.attributes.get("celery.retries") for span in runs] == [None, 1, 2]
    assert [span.status_code for span in runs] == [StatusCode.UNSET] * 3
    assert "try again" in runs[0].attributes["celery.retry.reason"]
    assert {span.user for span in made.spans} == {"u-7"}
    assert len({span.trace_id for span in made.spans}) == 1


# -- refusals --------------------------------------------------------------------------------------


def refused_by(sent):
    """The message that whoever waits for the task's result gets."""
    with pytest.raises(TaskRevokedError) as raised:
        result_of(sent)
    return str(raised.value)


def test_a_tripped_users_task_is_revoked_before_its_body(service, until, app):
    made = service()
    ran, failures = [], []
    entry_id = made.trip("u-7", "celery refresh")
    app.does["refresh"] = lambda _task, user: ran.append(user)
    app.does["errback"] = lambda *_: failures.append(1)
    refresh, errback = app.tasks["refresh"], app.tasks["errback"]
    sent = as_user("u-7", refresh.apply_async, ("u-7",), link_error=errback.s())
    assert entry_id in refused_by(sent)
    assert sent.state == "REVOKED"
    result_of(as_user("u-8", refresh.delay, "u-8"))
    until(lambda: len(made.spans) == 4)
    assert (ran, failures) == (["u-8"], [])
    run = next(span for span in made.spans if span.name == "celery refresh")
    assert (run.attributes[REJECTED], run.status_code) == (entry_id, StatusCode.UNSET)


PACED = {
    "mode": BreakerMode.PACE,
    "issuer": "rule:HarmfulUser",
    "budget": 0.1,
    "cost_per_call": 0.1,
}


def test_a_paced_users_task_goes_back_to_its_queue_until_its_turn(service, until, app):
    made = service()
    made.trip("u-7", "celery refresh", **PACED)
    ran = []
    app.does["refresh"] = lambda task, number: ran.append((number, task.request.retries))
    first = as_user("u-7", app.tasks["refresh"].delay, 1)
    result_of(first)
    second = as_user("u-7", app.tasks["refresh"].delay, 2)
    until(lambda: len([one for one in made.spans if REJECTED in one.attributes]) == 1)
    made.clock.advance(5.0)
    result_of(second)
    assert ran == [(1, 0), (2, 0)]
    runs = [span for span in made.spans if span.name == "celery refresh"]
    assert [REJECTED in span.attributes for span in runs] == [False, True, False]
    assert {span.attributes.get("messaging.message.id") for span in runs[1:]} == {second.id}


def test_tasks_that_are_sent_back_often_stay_away_for_longer_and_come_apart():
    assert [pause_s(1.2, times, lambda: 0.999) for times in range(5)] == [2, 3, 5, 9, 17]
    assert pause_s(1.2, 19, lambda: 0.999) == 62
    assert {pause_s(1.2, 19, lambda: 0.0), pause_s(1.2, 0)} == {2}


def test_a_paced_users_task_does_not_wait_for_ever(service, until, app):
    made = service()
    entry_id = made.trip("u-7", "celery refresh", **PACED)
    app.does["refresh"] = lambda *_: None
    result_of(as_user("u-7", app.tasks["refresh"].delay, 1))
    sent = as_user("u-7", app.tasks["refresh"].apply_async, (2,), headers={POSTPONED: 20})
    assert entry_id in refused_by(sent)


def test_a_refused_task_keeps_no_result_where_none_is_kept(service, until, app):
    made = service()
    made.trip("u-7", "celery quiet")
    sent = as_user("u-7", app.tasks["quiet"].delay)
    until(lambda: len(made.spans) == 2)
    assert app.AsyncResult(sent.id).state == "PENDING"


class Answered(httpx.BaseTransport):
    """A shop that refuses."""

    def handle_request(self, _request):
        marks = {"heatshield-breaker": "b-shop", "retry-after": "7"}
        return httpx.Response(503, headers=marks)


def guarded(_task):
    with heatshield.guard("report"):
        pass


def refused_elsewhere(_task):
    with httpx.Client(transport=Answered()) as client:
        heatshield.raise_for_rejection(client.get("http://shop/"))


def refused_elsewhere_as_an_error(_task):
    with httpx.Client(transport=Answered()) as client:
        client.get("http://shop/").raise_for_status()


def retried_by_hand(task):
    try:
        guarded(task)
    except Exception as error:
        raise task.retry(exc=error) from error


def retried_without_saying_why(task):
    try:
        guarded(task)
    except heatshield.BreakerOpen:
        task.retry()


@pytest.mark.parametrize(
    "body",
    [
        guarded,
        refused_elsewhere,
        refused_elsewhere_as_an_error,
        retried_by_hand,
        retried_without_saying_why,
    ],
)
def test_a_task_that_a_refusal_leaves_is_revoked_and_not_retried(service, until, app, body):
    made = service(disabled=("httpx", "downstream_httpx"))
    entry_id = made.trip("u-7", "report")
    tries = []

    def refresh(task):
        tries.append(1)
        body(task)

    app.does["refresh"] = refresh
    message = refused_by(as_user("u-7", app.tasks["refresh"].delay))
    until(lambda: [span for span in made.spans if span.name == "celery refresh"])
    assert tries == [1]
    expected = "b-shop" if body.__name__.startswith("refused") else entry_id
    assert expected in message
    run = both_ends(made, "refresh")[1]
    assert (run.attributes[REJECTED], run.status_code) == (expected, StatusCode.UNSET)


def test_naming_a_tripped_user_in_a_task_refuses_it(service, app):
    made = service()
    entry_id = made.trip("u-9", "celery buy")
    went_on = []

    def buy(_task):
        heatshield.user("u-9")
        went_on.append(1)

    app.does["buy"] = buy
    assert entry_id in refused_by(app.tasks["buy"].delay())
    assert not went_on


def test_a_chord_with_a_refused_part_ends(service, until, app):
    """Whoever waits for it is not left waiting."""
    made = service()
    made.trip("u-7", "celery buy")
    ran = []
    app.does["buy"] = app.does["inner"] = lambda *_: ran.append(1)
    buy, inner = app.tasks["buy"], app.tasks["inner"]
    sent = as_user("u-7", chord(group(buy.s(), buy.s()), inner.s()).apply_async)
    with pytest.raises(Exception, match="refused by breaker"):
        result_of(sent)
    until(lambda: len(made.spans) == 4)
    assert not ran


def test_a_task_that_is_called_is_part_of_its_caller(service, app):
    """Neither spans nor refusals of its own: it has not been sent."""
    made = service()
    made.trip("u-7", "celery buy")
    buy = app.tasks["buy"]
    app.does["buy"] = lambda _task: request_in().user
    app.does["inner"] = lambda _task: (buy(), buy.apply().get())
    assert as_user("u-7", buy) == "u-7"
    assert as_user("u-7", lambda: buy.apply().get()) == "u-7"
    assert result_of(as_user("u-7", app.tasks["inner"].delay)) == ["u-7", "u-7"]
    assert {span.name for span in made.spans} == {"publish inner", "celery inner"}


# -- the rest --------------------------------------------------------------------------------------


def test_where_the_service_has_opentelemetrys_nothing_is_doubled(service, until, app):
    made = service(user_header="x-user-id")
    app.does["buy"] = lambda _task: request_in().user
    CeleryInstrumentor().instrument(skip_dep_check=True)
    try:
        entry_id = made.trip("u-9", "run/buy")
        app.set_current()  # OpenTelemetry's looks for tasks in the current one
        buy = app.tasks["buy"]
        assert result_of(buy.apply_async(headers={"x-user-id": "u-8"})) == "u-8"
        assert entry_id in refused_by(buy.apply_async(headers={"x-user-id": "u-9"}))
        until(lambda: len(made.spans) == 4)
    finally:
        CeleryInstrumentor().uninstrument()
    assert sorted(span.name for span in made.spans) == ["apply_async/buy"] * 2 + ["run/buy"] * 2
    runs = [span for span in made.spans if span.name == "run/buy"]
    assert [span.user for span in runs] == ["u-8", "u-9"]
    assert [span.attributes.get(REJECTED) for span in runs] == [None, entry_id]


def test_it_comes_and_goes_while_a_worker_works(service, until, app):
    app.does["buy"] = lambda _task: request_in() is not None
    buy = app.tasks["buy"]
    assert result_of(buy.delay()) is False
    made = service()
    assert result_of(buy.delay()) is True
    until(lambda: len(made.spans) == 2)
    made.runtime.integrations.remove_all()
    assert result_of(buy.delay()) is False


@pytest.mark.usefixtures("_shared")
def test_a_worker_that_starts_instrumented_talks_to_its_broker_in_silence(service, until):
    """What it asks its broker belongs to nobody's request.

    The last test here: Celery ends all the workers of a process at once.
    """
    made = service()
    app = application()
    app.conf.task_default_queue = "its own"
    started = []

    @worker_started.connect
    def note(**_):
        started.append(is_instrumentation_enabled())

    app.does["buy"] = lambda _task: (is_instrumentation_enabled(), request_in().user)
    with working(app):
        for user in ("u-1", "u-2"):
            assert result_of(as_user(user, app.tasks["buy"].delay)) == [True, user]
        until(lambda: len(made.spans) == 4)
    worker_started.disconnect(note)
    assert started == [False]
    assert len(made.spans) == 4

"""Dramatiq on a real Redis: sending, working, users, refusals."""

import logging

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from opentelemetry.trace import SpanKind, StatusCode

import heatshield
from heatshield.context.request import request_in
from heatshield.integrations.messaging.job import Quietly
from heatshield.names import CALL, COST_ELEMENTS, ENDUSER_ID, REJECTED


class Shop:
    """Actors, and what they have seen."""

    def __init__(self, port):
        redis.Redis(port=port).flushall()
        self.broker = broker = RedisBroker(port=port)
        self.seen = seen = []

        def acts():
            request = request_in()
            return None if request is None else request.user

        @dramatiq.actor(broker=broker)
        def export(stickers):
            redis.Redis(port=port).sadd("exported", *stickers)
            seen.append(acts())

        @dramatiq.actor(broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
        def failing():
            seen.append(acts())
            raise LookupError("no such sticker")

        @dramatiq.actor(broker=broker)
        def guarded():
            with heatshield.guard("export.rows"):
                seen.append(acts())

        @dramatiq.actor(broker=broker)
        def sending():
            export.send(["cap"])

        self.export, self.failing, self.guarded, self.sending = export, failing, guarded, sending

    def work(self):
        worker = dramatiq.Worker(self.broker, worker_threads=1, worker_timeout=100)
        worker.start()
        with Quietly():  # of this test, which asks the broker whether all is done
            try:
                self.broker.join("default", timeout=20_000)
                worker.join()
            finally:
                worker.stop()


@pytest.fixture
def shop(port):
    return Shop(port)


def named(spans, name):
    return [span for span in spans if span.name == name]


def test_a_message_is_one_trace_with_its_user(service, shop):
    made = service()
    with heatshield.user("u-1"), heatshield.guard("checkout"):
        message = shop.export.send(["hat", "cap"])
    shop.work()
    assert shop.seen == ["u-1"]
    (sent,), (run,), (sadd,) = (
        named(made.spans, name) for name in ("publish export", "dramatiq export", "SADD")
    )
    assert (sent.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert sent.trace_id == run.trace_id == sadd.trace_id == made.span("checkout").trace_id
    assert run.parent.span_id == sent.context.span_id
    assert run.attributes[CALL] == sadd.attributes[CALL] == "dramatiq export"
    assert run.attributes[ENDUSER_ID] == sadd.attributes[ENDUSER_ID] == "u-1"
    assert run.attributes[COST_ELEMENTS] == 2
    assert run.attributes["messaging.message.id"] == message.message_id


def test_a_worker_s_own_talk_with_redis_makes_no_spans(service, shop):
    made = service()
    shop.export.send(["hat"])
    of_sender = len(made.spans)
    shop.work()
    assert [span.name for span in made.spans[of_sender:]] == ["SADD", "dramatiq export"]


def test_a_user_stands_in_the_options_where_the_settings_say_so(service, shop):
    service(user_header="x-user-id")
    shop.export.send_with_options(args=(["hat"],), **{"x-user-id": "u-7"})
    shop.work()
    assert shop.seen == ["u-7"]


def test_what_an_actor_sends_is_of_the_same_trace_and_user(service, shop):
    made = service()
    with heatshield.user("u-1"):
        shop.sending.send()
    shop.work()
    first, second = (named(made.spans, name)[0] for name in ("dramatiq sending", "dramatiq export"))
    assert first.trace_id == second.trace_id
    assert shop.seen == ["u-1"]


def test_a_failure_is_one_of_the_span_and_its_retry_has_the_user(service, shop):
    made = service()
    with heatshield.user("u-1"):
        shop.failing.send()
    shop.work()
    runs = named(made.spans, "dramatiq failing")
    assert [run.status.status_code for run in runs] == [StatusCode.ERROR] * 2
    assert {run.attributes["error.type"] for run in runs} == {"LookupError"}
    assert shop.seen == ["u-1", "u-1"]


def test_an_actor_that_is_called_is_its_caller_s_work(service, shop):
    made = service()
    with heatshield.user("u-1"), heatshield.guard("checkout"):
        shop.export(["hat"])
    assert shop.seen == ["u-1"]
    assert made.span("SADD").attributes[CALL] == "checkout"


@pytest.mark.parametrize(
    ("name", "call"), [("export", "dramatiq export"), ("guarded", "export.rows")]
)
def test_a_refused_message_is_skipped_and_neither_failed_nor_retried(
    service, shop, caplog, name, call
):
    made = service()
    entry = made.trip("u-1", call)
    actor = getattr(shop, name)
    arguments = (["hat"],) if name == "export" else ()
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            actor.send(*arguments)
    shop.work()
    assert shop.seen == ["u-2"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    refused, ran = named(made.spans, f"dramatiq {name}")
    assert refused.attributes[REJECTED] == entry
    assert refused.status.status_code is StatusCode.UNSET
    assert REJECTED not in ran.attributes


WORKER = """
import heatshield
heatshield.instrument("worker")
import dramatiq
from dramatiq.brokers.redis import RedisBroker
broker = RedisBroker(port={port})

@dramatiq.actor(broker=broker)
def export(stickers):
    print("ran", *stickers, flush=True)

worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=100)
worker.start()
broker.join("default", timeout=20_000)
worker.join()
worker.stop()
heatshield.shutdown()
"""


def test_a_worker_refuses_from_its_first_message_on_and_reports_each_refusal(
    service, shop, port, run_python, collector
):
    service()
    entry = collector.grant("u-1", "dramatiq export", service="worker")
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            shop.export.send([user])
    done = run_python(WORKER.format(port=port))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ran", "u-2"]
    rows = [row for _, report in collector.reports for row in report.get("rejected", ())]
    assert [(row["id"], row["count"]) for row in rows] == [(entry, 1)]

"""aiokafka against a broker on loopback: spans, users, costs, refusals, and what is kept."""

import asyncio
import uuid

import aiokafka
import pytest
from aiokafka.errors import MessageSizeTooLargeError
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.trace import SpanKind, StatusCode, get_tracer

import heatshield
from heatshield.names import COST_BYTES, COST_ELEMENTS, REJECTED

TRACER = get_tracer("test")


class Clients:
    """A producer, and a consumer of all that it sends."""

    def __init__(self, kafka):
        self.topic = f"orders-{uuid.uuid4().hex[:8]}"
        self.producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka)
        self.consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=kafka, auto_offset_reset="earliest", fetch_max_wait_ms=10
        )

    async def __aenter__(self):
        await self.producer.start()
        await self.producer.partitions_for(self.topic)
        await self.consumer.start()
        self.consumer.assign([aiokafka.TopicPartition(self.topic, 0)])
        await asyncio.sleep(0)  # aiokafka can't stop what has not begun
        return self

    async def __aexit__(self, *_):
        await self.consumer.stop()
        await self.producer.stop()

    async def send(self, value=b"v", **more):
        return await self.producer.send_and_wait(self.topic, value, partition=0, **more)

    async def record(self):
        return await asyncio.wait_for(self.consumer.getone(), 10)


@pytest.fixture
def with_clients(kafka):
    """Run a coroutine with clients of its own."""

    def run(scenario):
        async def connected():
            async with Clients(kafka) as clients:
                return clients.topic, await scenario(clients)

        return asyncio.run(connected())

    return run


def test_a_record_is_processed_in_the_trace_and_for_the_user_that_it_was_sent_for(
    service, with_clients
):
    made = service()

    async def scenario(clients):
        with TRACER.start_as_current_span("POST /orders", kind=SpanKind.SERVER) as request:
            heatshield.user("u-1")
            await clients.send(b"12345", key=b"key", headers=[("color", b"red")])
        record = await clients.record()
        with heatshield.processing(record), TRACER.start_as_current_span("step"):
            await asyncio.sleep(0)
        return request, record

    topic, (request, record) = with_clients(scenario)
    sent, processed = made.span(f"send {topic}"), made.span(f"process {topic}")
    assert sent.kind is SpanKind.PRODUCER
    assert (sent.parent_id, sent.user) == (request.span_id, "u-1")
    assert (sent.attributes[COST_ELEMENTS], sent.attributes[COST_BYTES]) == (1, 8)
    polled = made.span(f"poll {topic}")
    assert (polled.attributes[COST_ELEMENTS], polled.attributes[COST_BYTES]) == (1, 8)
    assert (polled.kind, polled.user) == (SpanKind.CLIENT, None)
    assert processed.kind is SpanKind.CONSUMER
    assert (processed.trace_id, processed.parent_id) == (sent.trace_id, sent.span_id)
    assert (processed.user, processed.call) == ("u-1", f"process {topic}")
    assert processed.attributes[COST_BYTES] == len("key12345")
    assert (made.span("step").user, made.span("step").call) == ("u-1", processed.name)
    assert record.headers[0] == ("color", b"red")


def test_many_records_are_one_span_and_no_records_are_none(service, with_clients):
    made = service()

    async def scenario(clients):
        for value in (b"1", b"22", b"333"):
            await clients.producer.send(clients.topic, value=value, partition=0)
        await clients.producer.flush()
        first = await clients.consumer.getmany(timeout_ms=10_000)
        assert not await clients.consumer.getmany(timeout_ms=1)
        return first

    topic, batches = with_clients(scenario)
    assert [len(records) for records in batches.values()] == [3]
    polled = made.span(f"poll {topic}")
    assert (polled.attributes[COST_ELEMENTS], polled.attributes[COST_BYTES]) == (3, 6)


def test_a_tripped_user_s_record_is_refused_and_another_s_is_not(service, with_clients):
    made = service()

    async def scenario(clients):
        made.trip("u-1", f"process {clients.topic}")
        for user in ("u-1", "u-2"):
            with heatshield.user(user):
                await clients.send(user.encode())
        done, parked = [], []
        for _ in range(2):
            record = await clients.record()
            try:
                with heatshield.processing(record):
                    done.append(record.value)
            except heatshield.BreakerOpen:
                parked.append(record.value)
        return done, parked

    topic, (done, parked) = with_clients(scenario)
    assert (done, parked) == ([b"u-2"], [b"u-1"])
    rejected = [REJECTED in one.attributes for one in made.spans if one.name == f"process {topic}"]
    assert rejected == [True, False]


def test_records_that_are_processed_side_by_side_keep_their_users(service, with_clients):
    made = service()

    async def work(record, all_begun):
        with heatshield.processing(record):
            await all_begun.wait()
            with TRACER.start_as_current_span(f"for {record.value.decode()}"):
                pass

    async def scenario(clients):
        for user in ("u-1", "u-2"):
            with heatshield.user(user):
                await clients.send(user.encode())
        all_begun = asyncio.Barrier(2)
        await asyncio.gather(*[work(await clients.record(), all_begun) for _ in range(2)])

    with_clients(scenario)
    assert [made.span(f"for {user}").user for user in ("u-1", "u-2")] == ["u-1", "u-2"]


def test_each_record_of_a_batch_travels_with_whom_it_was_added_for(service, with_clients):
    made = service()

    async def scenario(clients):
        batch = clients.producer.create_batch()
        for user in ("u-1", "u-2"):
            with heatshield.user(user):
                batch.append(timestamp=None, key=None, value=user.encode())
        await (await clients.producer.send_batch(batch, clients.topic, partition=0))
        for _ in range(2):
            with heatshield.processing(await clients.record()):
                pass

    topic, _ = with_clients(scenario)
    processed = [one.user for one in made.spans if one.name == f"process {topic}"]
    assert processed == ["u-1", "u-2"]
    sent = made.span(f"send {topic}")
    assert sent.attributes[COST_ELEMENTS] == 2
    assert sent.attributes[COST_BYTES] > 0


def test_what_the_producer_does_not_take_is_an_error_of_its_span_and_the_service_s(
    service, with_clients
):
    made = service()

    async def scenario(clients):
        with pytest.raises(MessageSizeTooLargeError):
            await clients.send(b"v" * 2_000_000)

    topic, _ = with_clients(scenario)
    assert made.span(f"send {topic}").status_code is StatusCode.ERROR


def test_clients_that_exist_are_covered_and_left_alone_after_the_end(service, with_clients):
    async def scenario(clients):
        made = service()
        await clients.send()
        spans = len(made.spans)
        heatshield.shutdown()
        await clients.send()
        return [(await clients.record()).headers for _ in range(2)], spans, len(made.spans)

    _, ((during, after), spans, in_the_end) = with_clients(scenario)
    assert "traceparent" in dict(during)
    assert after == ()
    assert spans == in_the_end == 1


def test_opentelemetry_s_own_instrumentation_is_left_to_it(service, with_clients):
    made = service()
    theirs = AIOKafkaInstrumentor()

    async def scenario(clients):
        with heatshield.user("u-1"):
            await clients.send()
        record = await clients.record()
        with heatshield.processing(record):
            pass
        return record

    theirs.instrument(skip_dep_check=True)
    try:
        topic, record = with_clients(scenario)
    finally:
        theirs.uninstrument()
    assert [name for name, _ in record.headers].count("traceparent") == 1
    assert made.span(f"process {topic}").user == "u-1"
    scopes = {one.instrumentation_scope.name for one in made.spans} - {"heatshield.messages"}
    assert scopes == {"opentelemetry.instrumentation.aiokafka"}

"""A gateway copies its caller's headers to a call or message of its own: nothing of them is said.

HTTP clients have the same tests in ``caller_behaviour``.
"""

import asyncio
import uuid

import aiokafka
import celery
import confluent_kafka
import pytest
from caller_behaviour import FIELDS, STRANGERS, of_no_user, of_user
from grpc_peers import CALL, aio_server, sync_server
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
from opentelemetry.propagate import inject

OURS = {"traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}
LOWER = {name.lower(): value for name, value in STRANGERS.items()}


def assert_ours(headers, made):
    """Pairs of headers name the trace of the request, and no user; others are still there."""
    told = [(name.lower(), value) for name, value in headers if name.lower() in FIELDS]
    assert sorted(name for name, _ in told) == sorted(OURS)
    text = dict(told)["traceparent"]
    trace = (text.decode() if isinstance(text, bytes) else text)[3:35]
    assert trace in {f"{span.trace_id:032x}" for span in made.spans if span.name == "serve"}
    assert "x-own" in dict(headers)


@pytest.fixture(params=[{"edge": True}, {}], ids=["edge", "within"])
def made(request, service):
    return service(**request.param)


@pytest.mark.parametrize("to", [(), ("*.internal",)])
def test_metadata_of_a_grpc_call(service, to):
    made, seen = service(edge=True, propagate_to=to), []

    def keep(request, context):
        seen.append([tuple(pair) for pair in context.invocation_metadata()])
        return request

    async def keep_async(request, context):
        return keep(request, context)

    async def ask_async():
        async with aio_server(U=keep_async) as channel:
            await channel.unary_unary(f"/{CALL}U")(b"a", metadata=metadata)

    metadata = (*LOWER.items(), ("x-own", "1"))
    with sync_server(U=keep) as channel:
        of_no_user(lambda: channel.unary_unary(f"/{CALL}U")(b"a", metadata=metadata))
    of_no_user(lambda: asyncio.run(ask_async()))
    assert len(seen) == 2
    for pairs in seen:
        assert ("x-own", "1") in pairs
        told = {name for name, _ in pairs} & FIELDS
        assert told == (set() if to else OURS)
    assert made.spans


def test_metadata_of_a_grpc_call_beside_opentelemetrys_own_instrumentation(service):
    service(edge=True)
    seen = []

    def keep(request, context):
        seen.append(dict(context.invocation_metadata()))
        return request

    theirs = GrpcInstrumentorClient()
    theirs.instrument(skip_dep_check=True)
    try:
        with sync_server(U=keep) as channel:
            call = channel.unary_unary(f"/{CALL}U")
            of_no_user(lambda: call(b"a", metadata=tuple(LOWER.items())))
    finally:
        theirs.uninstrument()
    assert seen[0].keys() & FIELDS == OURS


@pytest.mark.parametrize("contrib", [False, True])
def test_headers_of_a_celery_message(made, contrib):
    theirs = CeleryInstrumentor()
    if contrib:
        theirs.instrument(skip_dep_check=True)
    app = celery.Celery("shop", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    given = {**STRANGERS, "x-own": "1"}
    try:
        of_no_user(lambda: app.send_task("buy", headers=given))
        with app.connection() as connection:
            message = connection.SimpleQueue("celery").get(timeout=5)
    finally:
        if contrib:
            theirs.uninstrument()
    assert message.headers.keys() & STRANGERS.keys() <= OURS
    texts = [(name, value) for name, value in message.headers.items() if isinstance(value, str)]
    assert_ours(texts, made)
    assert given == {**STRANGERS, "x-own": "1"}


def pairs():
    return [*((name, value.encode()) for name, value in STRANGERS.items()), ("x-own", b"1")]


def records(kafka, topic, count):
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": kafka, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found = [consumer.poll(10) for _ in range(count)]
    consumer.close()
    return [message.headers() for message in found]


def test_headers_of_a_message_of_confluent_kafka(made, kafka):
    topic = uuid.uuid4().hex
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka})
    of_no_user(lambda: producer.produce(topic, b"", partition=0, headers=pairs()))
    of_no_user(lambda: producer.produce(topic, b"", partition=0, headers=dict(pairs())))
    producer.flush()
    for headers in records(kafka, topic, 2):
        assert_ours(headers, made)


def test_headers_of_messages_of_aiokafka(made, kafka):
    topic = uuid.uuid4().hex

    async def send():
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        await producer.send_and_wait(topic, b"", partition=0, headers=pairs())
        batch = producer.create_batch()
        batch.append(key=None, value=b"", timestamp=None, headers=pairs())
        await (await producer.send_batch(batch, topic, partition=0))
        await producer.stop()

    of_no_user(lambda: asyncio.run(send()))
    for headers in records(kafka, topic, 2):
        assert_ours(headers, made)


@pytest.mark.parametrize("edge", [True, False])
def test_a_message_sent_on_outside_of_any_request_keeps_its_user_but_at_an_edge(
    service, kafka, edge
):
    service(edge=edge)
    topic = uuid.uuid4().hex
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka})
    producer.produce(topic, b"", partition=0, headers=pairs())
    producer.flush()
    (headers,) = records(kafka, topic, 1)
    assert (headers == pairs()) is not edge
    assert ("Baggage" in dict(headers)) is not edge


def test_what_the_service_injects_itself(made):
    mapping, listed = {**STRANGERS, "x-own": "1"}, pairs()
    of_no_user(lambda: inject(mapping))
    assert mapping.keys() & STRANGERS.keys() == set()
    assert mapping.keys() == {*OURS, "x-own"}

    class Listing:
        def set(self, carrier, key, value):
            carrier.append((key, value.encode()))

    of_no_user(lambda: inject(listed, setter=Listing()))
    assert {name for name, _ in listed} == {*OURS, "x-own"}
    of_user("u-1", lambda: inject(mapping))
    assert mapping["baggage"] == "enduser.id=u-1"

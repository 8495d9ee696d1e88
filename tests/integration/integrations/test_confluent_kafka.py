"""confluent-kafka against a broker on loopback: spans, users, costs, refusals, and what is kept."""

import asyncio
import re
import sys
import uuid
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.aio import AIOConsumer
from confluent_kafka.serialization import StringDeserializer, StringSerializer
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode, get_tracer

import heatshield
from heatshield.names import COST_BYTES, COST_ELEMENTS, REJECTED

TRACER = get_tracer("test")
PAGE = Path(__file__).parents[3] / "docs" / "messaging.md"


class Topic:
    """A topic of its own for each test, with one who sends and one who receives."""

    def __init__(self, kafka):
        self.kafka = kafka
        self.name = f"orders-{uuid.uuid4().hex[:8]}"
        self._consumers = []
        self.producer().list_topics(self.name, timeout=10)  # makes it

    def producer(self, of=None, **more):
        settings = {"bootstrap.servers": self.kafka, "log_level": 0, "linger.ms": 0}
        return (of or confluent_kafka.Producer)(settings | more)

    def consumer(self, of=None, **more):
        made = (of or confluent_kafka.Consumer)(self.settings | more)
        made.assign([self.partition])
        self._consumers.append(made)
        return made

    @property
    def partition(self):
        """The only one that is used: subscribing would wait for a group to balance."""
        return confluent_kafka.TopicPartition(self.name, 0, confluent_kafka.OFFSET_BEGINNING)

    @property
    def settings(self):
        return {
            "bootstrap.servers": self.kafka,
            "log_level": 0,
            "group.id": self.name,
            "fetch.wait.max.ms": 10,
        }

    def close(self):
        for consumer in self._consumers:
            consumer.close()


@pytest.fixture
def topic(kafka):
    made = Topic(kafka)
    yield made
    made.close()


def received(consumer, messages=1):
    found = []
    while len(found) < messages:
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        found.append(message)
    return found


def test_a_message_is_processed_in_the_trace_and_for_the_user_that_it_was_sent_for(service, topic):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    with TRACER.start_as_current_span("POST /orders", kind=SpanKind.SERVER) as request:
        heatshield.user("u-1")
        producer.produce(topic.name, b"12345", b"key", headers={"color": "red"}, partition=0)
    producer.flush()
    (message,) = received(consumer)
    with heatshield.processing(message), TRACER.start_as_current_span("step"):
        heatshield.cost(elements=7)

    sent, processed = made.span(f"send {topic.name}"), made.span(f"process {topic.name}")
    assert sent.kind is SpanKind.PRODUCER
    assert (sent.parent_id, sent.user) == (request.span_id, "u-1")
    assert (sent.attributes[COST_ELEMENTS], sent.attributes[COST_BYTES]) == (1, 8)
    assert processed.kind is SpanKind.CONSUMER
    assert (processed.trace_id, processed.parent_id) == (sent.trace_id, sent.span_id)
    assert (processed.user, processed.call) == ("u-1", f"process {topic.name}")
    assert processed.attributes[COST_BYTES] == len("key12345")
    assert processed.attributes["messaging.destination.name"] == topic.name
    assert processed.attributes["messaging.kafka.offset"] == message.offset()
    step = made.span("step")
    assert (step.parent_id, step.user, step.call) == (processed.span_id, "u-1", processed.name)
    assert ("color", b"red") in message.headers()


def test_receiving_costs_as_many_elements_as_there_are_messages_and_is_nobodys(service, topic):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    for value in (b"1", b"22", b"333"):
        producer.produce(topic.name, value, partition=0)
    producer.flush()
    assert len(consumer.consume(3, 10)) == 3
    assert consumer.poll(0) is None

    polled = made.span(f"poll {topic.name}")
    assert polled.kind is SpanKind.CLIENT
    assert (polled.attributes[COST_ELEMENTS], polled.attributes[COST_BYTES]) == (3, 6)
    assert polled.attributes["messaging.batch.message_count"] == 3
    assert (polled.user, polled.call) == (None, "")


def test_a_tripped_user_s_message_is_refused_and_another_s_is_not(service, topic):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    call = f"process {topic.name}"
    entry = made.trip("u-1", call)
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            producer.produce(topic.name, user.encode(), partition=0)
    producer.flush()
    done, parked = [], []
    for message in received(consumer, 2):
        try:
            with heatshield.processing(message):
                done.append(message.value())
        except heatshield.BreakerOpen:
            parked.append(message.value())

    assert (done, parked) == ([b"u-2"], [b"u-1"])
    refused, let_through = (span for span in made.spans if span.name == call)
    assert refused.attributes[REJECTED] == entry
    assert refused.status_code is StatusCode.UNSET
    assert REJECTED not in let_through.attributes


def test_a_user_who_is_named_while_the_message_is_processed_is_refused_then(service, topic):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    made.trip("u-1", f"process {topic.name}")
    producer.produce(topic.name, b"u-1", partition=0)
    producer.flush()
    (message,) = received(consumer)
    with pytest.raises(heatshield.BreakerOpen), heatshield.processing(message):
        heatshield.user(message.value().decode())
    assert REJECTED in made.span(f"process {topic.name}").attributes


def test_the_header_that_the_settings_name_names_the_user(service, topic):
    made = service(user_header="X-User")
    producer, consumer = topic.producer(), topic.consumer()
    with suppress_instrumentation():
        producer.produce(topic.name, b"", headers=[("X-User", "u-9")], partition=0)
    producer.flush()
    with heatshield.guard("loop"), heatshield.processing(*received(consumer)):
        pass
    processed = made.span(f"process {topic.name}")
    assert (processed.user, processed.parent_id) == ("u-9", 0)
    assert processed.call == processed.name


def test_processing_leaves_the_consumer_s_own_context_as_it_was_and_says_what_failed(
    service, topic
):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    producer.produce(topic.name, b"", partition=0)
    producer.flush()
    (message,) = received(consumer)
    with TRACER.start_as_current_span("loop") as loop:
        with pytest.raises(ValueError, match="bad"), heatshield.processing(message):
            raise ValueError("bad")
        with TRACER.start_as_current_span("after"):
            pass
    processed = made.span(f"process {topic.name}")
    assert processed.trace_id != loop.trace_id
    assert processed.status_code is StatusCode.ERROR
    assert processed.attributes["error.type"] == "ValueError"
    assert made.span("after").parent_id == loop.span_id


def test_a_message_that_is_sent_on_names_the_trace_it_is_in_and_none_twice(service, topic):
    service()
    producer, consumer = topic.producer(), topic.consumer()
    with heatshield.user("u-1"):
        producer.produce(topic.name, b"", partition=0)
    producer.flush()
    (first,) = received(consumer)
    with heatshield.processing(first):
        producer.produce(topic.name, b"", partition=0, headers=first.headers())
    producer.produce(topic.name, b"", partition=0, headers=first.headers())
    producer.flush()
    inside, outside = received(consumer, 2)

    names = [name for name, _ in inside.headers()]
    assert len(names) == len(set(names))
    came, went = dict(first.headers()), dict(inside.headers())
    assert came["traceparent"] != went["traceparent"]
    assert came["traceparent"][:35] == went["traceparent"][:35]
    assert went["baggage"] == b"enduser.id=u-1"
    assert outside.headers() == first.headers()


def test_headers_may_be_given_by_position_and_none_are_touched_that_are_the_service_s(
    service, topic
):
    service()
    producer, consumer = topic.producer(), topic.consumer()
    given = [("color", b"red"), ("color", None)]
    producer.produce(topic.name, b"v", b"k", 0, None, None, 0, given)
    producer.flush()
    (message,) = received(consumer)
    assert given == [("color", b"red"), ("color", None)]
    assert message.headers()[:2] == given
    assert "traceparent" in dict(message.headers())


def test_callbacks_of_delivery_run_in_poll_and_get_the_message(service, topic):
    service()
    producer, delivered = topic.producer(), []
    producer.produce(topic.name, b"v", on_delivery=lambda *report: delivered.append(report))
    assert not delivered
    producer.flush()
    ((error, message),) = delivered
    assert error is None
    assert message.value() == b"v"


def test_what_the_producer_does_not_take_is_an_error_of_its_span_and_the_service_s(service, topic):
    made = service()
    producer = topic.producer(**{"message.max.bytes": 1_000})
    with pytest.raises(confluent_kafka.KafkaException, match="MSG_SIZE_TOO_LARGE"):
        producer.produce(topic.name, b"v" * 2_000, partition=0)
    assert made.span(f"send {topic.name}").status_code is StatusCode.ERROR
    with pytest.raises(TypeError):
        producer.produce()
    for headers in ([1], "text", [("a", 1)], [("a",)], (("a", b"b"),)):
        with pytest.raises(TypeError) as ours:
            producer.produce(topic.name, headers=headers)
        with suppress_instrumentation(), pytest.raises(TypeError) as theirs:
            producer.produce(topic.name, headers=headers)
        assert str(ours.value) == str(theirs.value)


def test_serializing_and_deserializing_clients_are_seen_once(service, topic):
    made = service()
    producer = topic.producer(
        confluent_kafka.SerializingProducer, **{"value.serializer": StringSerializer()}
    )
    consumer = topic.consumer(
        confluent_kafka.DeserializingConsumer, **{"value.deserializer": StringDeserializer()}
    )
    with heatshield.user("u-1"):
        producer.produce(topic.name, value="grün", partition=0)
    producer.flush()
    (message,) = received(consumer)
    assert message.value() == "grün"
    with heatshield.processing(message):
        pass
    assert made.span(f"send {topic.name}").attributes[COST_BYTES] == len("grün".encode())
    assert made.span(f"poll {topic.name}").attributes[COST_BYTES] == len("grün".encode())
    assert made.span(f"process {topic.name}").user == "u-1"


def test_a_batch_is_one_span(service, topic):
    made = service()
    producer, consumer = topic.producer(), topic.consumer()
    assert (
        producer.produce_batch(topic.name, [{"value": b"1"}, {"value": b"22", "key": b"k"}], 0) == 2
    )
    producer.flush()
    received(consumer, 2)
    sent = made.span(f"send {topic.name}")
    assert (sent.attributes[COST_ELEMENTS], sent.attributes[COST_BYTES]) == (2, 4)


def test_asyncio_s_consumer_is_seen(service, topic):
    made = service()
    producer = topic.producer()
    with heatshield.user("u-1"):
        producer.produce(topic.name, b"v", partition=0)
    producer.flush()

    async def consume():
        consumer = AIOConsumer(topic.settings)
        await consumer.assign([topic.partition])
        message = await consumer.poll(10)
        with heatshield.processing(message):
            await asyncio.sleep(0)
        await consumer.close()

    asyncio.run(consume())
    assert made.span(f"poll {topic.name}").attributes[COST_ELEMENTS] == 1
    assert made.span(f"process {topic.name}").user == "u-1"


def test_classes_are_what_they_were_to_whoever_asks(service, topic):
    plain = confluent_kafka.Producer
    service()
    ours = confluent_kafka.Producer
    assert ours is not plain
    assert ours is sys.modules["confluent_kafka.cimpl"].Producer
    producer = topic.producer(confluent_kafka.SerializingProducer)
    assert isinstance(producer, ours)
    assert isinstance(topic.producer(), plain)
    assert (ours.__name__, ours.__module__) == (plain.__name__, plain.__module__)
    with pytest.raises(AttributeError):
        topic.producer().anything = 1


def test_nothing_is_made_after_the_end_and_the_classes_are_back(service, topic):
    plain = confluent_kafka.Producer
    made = service()
    producer = topic.producer()
    heatshield.shutdown()
    assert confluent_kafka.Producer is plain
    producer.produce(topic.name, b"v", partition=0)
    producer.flush()
    (message,) = received(topic.consumer())
    with heatshield.processing(message):
        pass
    assert message.headers() is None
    assert made.spans == []


def test_opentelemetry_s_own_instrumentation_is_left_to_it(service, topic):
    made = service()
    theirs = ConfluentKafkaInstrumentor()
    theirs.instrument(skip_dep_check=True)
    try:
        producer = topic.producer()
        with heatshield.user("u-1"):
            producer.produce(topic.name, b"v", partition=0)
        producer.flush()
        consumer = topic.consumer()
        (message,) = received(consumer)
        consumer.poll(0)
    finally:
        theirs.uninstrument()
    scopes = {span.instrumentation_scope.name for span in made.spans}
    assert scopes == {"opentelemetry.instrumentation.confluent_kafka"}
    assert [name for name, _ in message.headers()].count("traceparent") == 1
    with heatshield.processing(message):
        pass
    assert made.span(f"process {topic.name}").user == "u-1"


def test_the_documented_loop_does_what_is_allowed_and_parks_the_rest(service, topic):
    made = service()
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (one for one in examples if "confluent_kafka" in one)
    scope, done = {}, []
    exec(compile(example, PAGE, "exec"), scope)  # noqa: S102  # our own page
    scope["handle"] = lambda message: done.append(message.value())
    made.trip("u-1", f"process {topic.name}")
    producer, consumer = topic.producer(), topic.consumer()
    for user in ("u-1", "u-2"):
        with heatshield.user(user):
            producer.produce(topic.name, user.encode(), partition=0)
    producer.flush()
    while b"u-2" not in done:
        scope["work"](consumer, producer)
    later = topic.consumer()
    parked_in = [confluent_kafka.TopicPartition(f"{topic.name}.later", n, 0) for n in range(4)]
    later.assign(parked_in)
    (parked,) = received(later)
    with heatshield.processing(parked):
        pass
    assert done == [b"u-2"]
    assert parked.value() == b"u-1"
    assert made.span(f"process {topic.name}.later").user == "u-1"


def test_what_is_no_message_is_processed_unseen(service):
    made = service()
    with heatshield.processing(object()):
        pass
    assert made.spans == []

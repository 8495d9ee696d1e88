"""A consumer follows the breakers from when it first asks: its first message may be refused."""

import pytest

CONFLUENT = """
import sys, uuid
import heatshield
heatshield.instrument("worker")
import confluent_kafka

topic, settings = "orders", {{"bootstrap.servers": "{kafka}", "log_level": 0}}
producer = confluent_kafka.Producer(settings)
producer.list_topics(topic, timeout=10)
consumer = confluent_kafka.Consumer(settings | {{"group.id": str(uuid.uuid4())}})
consumer.assign([confluent_kafka.TopicPartition(topic, 0, confluent_kafka.OFFSET_END)])
assert consumer.poll(1.0) is None
with heatshield.user("u-1"):
    producer.produce(topic, b"v", partition=0)
producer.flush()
while (message := consumer.poll(1.0)) is None:
    pass
try:
    with heatshield.processing(message):
        print("ran")
except heatshield.BreakerOpen:
    print("refused")
consumer.close()
"""

AIOKAFKA = """
import asyncio
import heatshield
heatshield.instrument("worker")
import aiokafka

async def main():
    where = {{"bootstrap_servers": "{kafka}"}}
    async with aiokafka.AIOKafkaProducer(**where) as producer:
        await producer.partitions_for("orders")
        consumer = aiokafka.AIOKafkaConsumer(**where)
        await consumer.start()
        consumer.assign([aiokafka.TopicPartition("orders", 0)])
        await consumer.seek_to_end()
        assert await consumer.getmany(timeout_ms=1_000) == {{}}
        with heatshield.user("u-1"):
            await producer.send_and_wait("orders", b"v", partition=0)
        record = await consumer.getone()
        try:
            with heatshield.processing(record):
                print("ran")
        except heatshield.BreakerOpen:
            print("refused")
        await consumer.stop()

asyncio.run(main())
"""


@pytest.mark.parametrize("program", [CONFLUENT, AIOKAFKA], ids=["confluent_kafka", "aiokafka"])
def test_the_first_message_of_a_consumer_may_be_refused(run_python, collector, kafka, program):
    collector.grant("u-1", "process orders", service="worker")
    done = run_python(program.format(kafka=kafka))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"]

"""confluent-kafka, imported before and after heatshield: what builds on its classes is traced."""

import pytest

PROGRAM = """
import heatshield

def instrument():
    heatshield.instrument(service="shop")

{first}
import confluent_kafka
from confluent_kafka.serialization import StringSerializer

class Ours(confluent_kafka.Producer):
    pass

{then}
from confluent_kafka import Producer, SerializingProducer

for built_on_it in (Ours, SerializingProducer):
    assert built_on_it.__mro__[1] is Producer, built_on_it.__mro__
cluster = {{"test.mock.num.brokers": 1, "log_level": 0}}
for producer in (
    SerializingProducer(cluster | {{"value.serializer": StringSerializer()}}),
    Ours(cluster),
    Producer(cluster),
):
    producer.produce("orders", value="v")
    producer.flush()
assert heatshield.status()["integrations"]["confluent_kafka"] == "active"
assert heatshield.status()["errors"] == {{}}, heatshield.status()["errors"]
"""


@pytest.mark.parametrize(
    "steps", [{"first": "instrument()", "then": ""}, {"first": "", "then": "instrument()"}]
)
def test_whichever_comes_first_all_that_builds_on_the_producer_is_seen_once(
    collector, run_python, steps
):
    done = run_python(PROGRAM.format(**steps))
    assert (done.returncode, done.stderr) == (0, "")
    assert [span.name for _, span in collector.spans] == ["send orders"] * 3

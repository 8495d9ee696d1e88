"""The workers of a service: of its live instances, and no claim moves them far."""

from heatshield.contract import MAX_WORKERS
from heatshield_alerts.instances import BELIEVED_PROCESSORS, BELIEVED_WORKERS, LIVE_S, Instances


def test_capacity_is_that_of_the_live_instances_of_the_service():
    instances = Instances()

    def sends(service, instance, workers, now):
        return instances.attend(service, instance, now, workers=workers, sends_spans=True)

    assert sends("shop", "a", 2, 0.0)
    assert sends("shop", "b", 2, 20.0)
    sends("talk", "c", 8, 20.0)
    assert list(instances.capacities(LIVE_S).items()) == [("shop", 4), ("talk", 8)]
    assert instances.capacities(LIVE_S + 1) == {"shop": 2, "talk": 8}
    assert not sends("shop", "b", 2, 40.0)
    assert [row.instance for row in instances.forget(60.0)] == ["a", "c"]
    assert sends("shop", "a", 4, 60.0)


def test_no_claim_of_one_moves_the_capacity_far_and_what_sends_no_spans_has_none():
    """Else a single forged report hides every hot user of a service."""
    instances = Instances()
    for name in ("a", "b", "c"):
        instances.attend("shop", name, 0.0, workers=2, sends_spans=True)
    for number in range(100):
        instances.attend("shop", f"forged-{number}", 1.0, workers=MAX_WORKERS)
    assert instances.capacities(1.0) == {"shop": 6}
    instances.attend("shop", "a", 2.0, workers=MAX_WORKERS)
    assert instances.capacities(2.0) == {"shop": 6}


def test_of_a_claim_no_more_is_believed_than_was_shown_or_is_usual():
    """One that is alone may say what it likes: nobody would be hot on 4,096 workers."""
    instances, shown = Instances(), {}

    def capacity():
        return instances.capacities(1.0, lambda service: shown.get(service, 0.0))["shop"]

    instances.attend("shop", "a", 0.0, workers=MAX_WORKERS, sends_spans=True)
    assert capacity() == BELIEVED_WORKERS
    shown["shop"] = 11.5
    assert capacity() == 11.5
    shown["shop"] = 2.0 * MAX_WORKERS
    assert capacity() == MAX_WORKERS
    shown["shop"] = 0.5
    instances.attend("shop", "a", 0.0, workers=64, processors=2.0)
    assert capacity() == 2.0
    instances.attend("shop", "a", 0.0, processors=1e300)
    assert capacity() == BELIEVED_PROCESSORS
    instances.attend("shop", "a", 0.0, processors=0.1)
    assert capacity() == 1.0


def test_instances_that_report_no_workers_count_as_the_others_do_or_as_one():
    instances = Instances()
    instances.attend("shop", "stock", 0.0, sends_spans=True)
    assert instances.capacities(0.0) == {"shop": 1}
    instances.attend("shop", "ours", 0.0, workers=4)
    instances.attend("shop", "ours", 0.0, sends_spans=True)
    assert instances.capacities(0.0) == {"shop": 8}

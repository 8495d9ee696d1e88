"""Worlds on virtual time: their queues queue, and their judge tells harm from none."""

import pytest

from heatshield_collector.worlds.backends import Backend, Places
from heatshield_collector.worlds.engine import Engine
from heatshield_collector.worlds.judge import judge
from heatshield_collector.worlds.processors import EventLoop, SharedProcessors
from heatshield_collector.worlds.scenes import SCENES


def test_a_redis_serves_one_operation_after_the_other():
    engine, ended = Engine(), []
    redis = Backend(engine, "redis", "cart:6379")
    for _ in range(3):
        redis.serve(0.1, lambda: ended.append(engine.now_s))
    engine.run(1.0)
    assert ended == pytest.approx([0.1, 0.2, 0.3])


def test_a_database_serves_as_many_as_it_has_servers():
    engine, ended = Engine(), []
    database = Backend(engine, "postgresql", "db", servers=2)
    for _ in range(3):
        database.serve(0.1, lambda: ended.append(engine.now_s))
    engine.run(1.0)
    assert ended == pytest.approx([0.1, 0.1, 0.2])


def test_what_begins_in_a_stall_ends_after_it():
    engine, ended = Engine(), []
    redis = Backend(engine, "redis", "cart:6379")
    redis.stall(2.0)
    redis.serve(0.1, lambda: ended.append(engine.now_s))
    engine.run(3.0)
    assert ended == pytest.approx([2.1])


def test_threads_that_share_a_processor_slow_each_other():
    engine, ended = Engine(), {}
    processors = SharedProcessors(engine, 1.0)
    processors.start(0.1, lambda: ended.update(short=engine.now_s))
    task = processors.start(0.3, lambda: ended.update(long=engine.now_s))
    engine.run(0.1)
    assert processors.used_s(task) == pytest.approx(0.05)
    engine.run(1.0)
    assert ended == pytest.approx({"short": 0.2, "long": 0.4})
    assert processors.busy_s() == pytest.approx(0.4)


def test_an_event_loop_does_one_thing_at_a_time():
    engine, ended = Engine(), {}
    loop = EventLoop(engine)
    loop.start(0.3, lambda: ended.update(first=engine.now_s))
    task = loop.start(0.1, lambda: ended.update(second=engine.now_s))
    engine.run(0.2)
    assert loop.used_s(task) == 0.0
    engine.run(1.0)
    assert ended == pytest.approx({"first": 0.3, "second": 0.4})
    assert loop.lag_s() == pytest.approx(0.3)


def test_places_are_given_first_come_first_served():
    taken = []
    places = Places(1)
    for name in "abc":
        places.take(lambda name=name: taken.append(name))
    assert (taken, places.queued) == (["a"], 2)
    places.give_back()
    assert taken == ["a", "b"]


def test_a_seed_gives_the_same_answer_twice():
    one, two = (judge(SCENES["hot-user"], 3, 145.0).to_json() for _ in range(2))
    for said in (one, two):
        del said["took_s"], said["rss_mib"]
    assert one == two


def test_harm_is_measured_against_the_world_without_the_culprit():
    found = judge(SCENES["hot-user"], 1, 145.0)
    assert found.unprotected.began_s == pytest.approx(140.0, abs=0.1)
    assert found.unprotected.p95_ms > 10 * found.unprotected.p95_without_ms
    assert found.protected.harmed < found.unprotected.harmed / 2


def test_nobody_is_harmed_by_a_page_of_thumbnails():
    found = judge(SCENES["thumbnails"], 1, 90.0)
    assert not found.real
    assert not found.refused

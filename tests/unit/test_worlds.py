"""Worlds on virtual time: their queues queue, and their judge tells harm from none."""

import json

import pytest

from heatshield.charge_report import ChargeReport
from heatshield_collector.decode import decode_traces
from heatshield_collector.worlds.backends import Backend, Places
from heatshield_collector.worlds.charge_emitter import ChargeEmitter
from heatshield_collector.worlds.engine import Engine
from heatshield_collector.worlds.judge import judge
from heatshield_collector.worlds.processors import EventLoop, SharedProcessors
from heatshield_collector.worlds.requests import Compute, Request
from heatshield_collector.worlds.scenes import SCENES
from heatshield_collector.worlds.scenes.parts import shop
from heatshield_collector.worlds.services import Service, Shape
from heatshield_collector.worlds.span_emitter import SpanEmitter
from heatshield_collector.worlds.telemetry import Faults
from heatshield_collector.worlds.world import World


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


@pytest.fixture(scope="module")
def hot_user():
    return judge(SCENES["hot-user"], 1, 143.0)


def test_a_seed_gives_the_same_answer_twice(hot_user):
    one, two = hot_user.to_json(), judge(SCENES["hot-user"], 1, 143.0).to_json()
    for said in (one, two):
        del said["took_s"], said["rss_mib"]
    assert one == two


def test_harm_is_measured_against_the_world_without_the_culprit(hot_user):
    unprotected = hot_user.unprotected
    assert unprotected.began_s == pytest.approx(140.0, abs=0.1)
    assert unprotected.p95_ms > 10 * unprotected.p95_without_ms
    assert hot_user.protected.harmed < unprotected.harmed / 2


def test_times_count_from_the_first_harmful_request(hot_user):
    opened = next(one for one in hot_user.decisions if one.change == "opened")
    seconds = opened.at_s - hot_user.unprotected.began_s
    assert hot_user.pace_s == {"hot": pytest.approx(seconds, abs=1e-3)}


def test_nothing_is_decided_about_a_page_of_thumbnails():
    found = judge(SCENES["thumbnails"], 1)
    assert found.requests > 500
    assert found.passed
    assert not found.decisions


def test_who_waits_in_a_backlog_is_not_seen_to_wait():
    engine, told = Engine(), []
    shape = Shape("threads", 1, 1.0, has_backlog=True)
    service = Service(engine, "app", 1, shape, iter(range(9)).__next__, 0.0)
    for number in (1, 2):
        request = Request("u-1", "GET /", (Compute(0.1),), 0.0, number, number)
        service.take(request, told.append)
    engine.run(1.0)
    assert [one.ended_s for one in told] == pytest.approx([0.1, 0.2])
    assert [one.sent_s for one in told] == pytest.approx([0.0, 0.1])


def test_a_report_charges_what_runs_and_at_its_end_the_rest():
    world = World(1)
    service = world.service("app")
    instance = service.instances[0]
    sent = []
    instance.telemetry = ChargeEmitter(instance, 0, Faults(), lambda _, body: sent.append(body))
    world.ask("one", "u-1", service, "GET /", (Compute(0.3),))
    for at_s in (0.2, 0.4):
        world.engine.run(at_s)
        instance.telemetry.flush(at_s)
    reports = [ChargeReport.from_json(json.loads(body)) for body in sent]
    pairs = [report.pairs[0] for report in reports]
    assert [pair.cpu_us for pair in pairs] == [200_000, 100_000]
    assert [pair.calls for pair in pairs] == [1, 0]
    assert [row.open for report in reports for row in report.durations] == [True, False]


def test_users_that_a_report_has_no_room_for_are_told_together():
    world = World(1)
    service = world.service("app", shape=Shape("threads", 100, 100.0))
    instance = service.instances[0]
    sent = []
    instance.telemetry = ChargeEmitter(instance, 0, Faults(), lambda _, body: sent.append(body))
    for at in range(70):
        world.ask("many", f"u-{at}", service, "GET /", (Compute(0.1 + at / 1_000),))
    world.engine.run(0.2)
    instance.telemetry.flush(0.2)
    pairs = ChargeReport.from_json(json.loads(sent[0])).pairs
    assert len(pairs) == 65
    assert pairs[0].user == "u-69"
    assert (pairs[-1].user, pairs[-1].calls) == ("", 6)


def test_spans_are_as_the_collector_reads_them():
    world = World(1, "spans")
    here = shop(world)
    sent = []
    for instance in here.service.instances:
        instance.telemetry = SpanEmitter(
            instance, 10**9, Faults(), lambda _, body: sent.append(body)
        )
    ask = here.exactly("POST /p", 0.08, elements=7)
    world.ask("one", "u-1", here.service, ask.call, ask.steps(world.chance("x")))
    world.engine.run(1.0)
    for instance in here.service.instances:
        instance.telemetry.flush(1.0)
    rows = decode_traces(sent, 0).table.to_pylist()
    operation, server = rows
    assert (operation["backend"], operation["address"]) == ("redis", "cart:6379")
    assert (operation["elements"], operation["parent_span_id"]) == (7, server["span_id"])
    assert {row["user"] for row in rows} == {"u-1"}
    assert operation["duration_ns"] == pytest.approx(80e6, rel=1e-6)

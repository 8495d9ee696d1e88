"""The suite counts what the judge found, and names each target that is missed."""

import pytest

import evaluation as page_tables
from heatshield_collector.worlds.collector import Decision
from heatshield_collector.worlds.judge import Judgement, Suffering
from heatshield_collector.worlds.scenes import SCENES
from heatshield_collector.worlds.suite import evaluation, text_of


def judged(scene="hot-user", **more):
    real = Suffering(began_s=140.0) if SCENES[scene].culprits else Suffering()
    return Judgement(scene, SCENES[scene].kind, 1, unprotected=real, others_per_s=100.0, **more)


def target(result, name):
    return next(one for one in result.targets if one.name.startswith(name))


def test_all_is_well_where_culprits_are_slowed_in_time_and_nobody_else_is():
    result = evaluation([judged(pace_s={"hot": 0.3}), judged("flash-crowd", seconds=43_200.0)])
    assert result.passed
    assert target(result, "precision").value == 1.0
    assert target(result, "recall").value == 1.0
    assert target(result, "simulated days").value == 0.5


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (judged(missed=["hot"]), "recall"),
        (judged(pace_s={"hot": 0.9}), "first harmful request to pace, p99"),
        (judged(pace_s={"hot": 0.3}, lasting=True), "to refuse"),
        (judged(pace_s={"hot": 0.3}, lasting=True, refuse_s={"hot": 2.6}), "to refuse"),
        (judged("flash-crowd", refused=["u-1"]), "innocent users refused"),
        (judged("flash-crowd", paced=["u-1"]), "innocent users paced"),
        (judged("flash-crowd", failures=1), "evaluations that failed"),
    ],
)
def test_a_target_that_is_missed_is_named(found, name):
    result = evaluation([found])
    assert not target(result, name).met
    assert not result.passed


def test_a_pace_that_is_fair_misses_no_target():
    assert evaluation([judged("night-batch", fair_paced=["batch"])]).passed


def test_times_do_not_count_where_few_others_are_there():
    few = judged(pace_s={"hot": 9.0})
    few.others_per_s = 2.0
    assert target(evaluation([few]), "first harmful request to pace, p50").value is None


def test_false_trips_are_counted_by_the_day():
    found = judged("flash-crowd", paced=["u-1"], refused=["u-2"], seconds=21_600.0)
    assert target(evaluation([found]), "false trips").value == 8.0


def test_a_table_for_people_has_a_line_for_each_scene():
    text = text_of(evaluation([judged(pace_s={"hot": 0.3}), judged("laptop")]))
    assert [line.split()[0] for line in text.splitlines()[-2:]] == ["hot-user", "laptop"]


def test_what_a_judgement_says_has_its_decisions_by_name():
    decision = Decision(140.3, "opened", "hot", "shop", "POST /p", "pace", "burns")
    said = judged(decisions=[decision]).to_json()
    assert said["decisions"][0]["at_s"] == 140.3
    assert said["real"]


def test_the_page_has_both_runs_side_by_side():
    before = evaluation([judged(missed=["hot"])]).to_json()
    after = evaluation([judged(pace_s={"hot": 0.3})]).to_json()
    old = f"head\n{page_tables.BEGIN}\nof last week\n{page_tables.END}\ntail"
    text = page_tables.page(old, page_tables.tables(before, after))
    row = next(line for line in text.splitlines() if line.startswith("| `hot-user`"))
    assert row.split(" | ")[-2:] == ["missed in 1", "slowed after 0.3 s, at most 0.3 s |"]
    assert "last week" not in text
    assert text.endswith("tail")


def test_every_scene_says_what_it_is_and_names_of_scenes_are_few_words():
    for name, scene in SCENES.items():
        assert scene.about, name
        assert scene.kind in {"life", "normal", "incident", "tried"}
        assert scene.seconds > scene.begins_s or scene.kind != "incident"

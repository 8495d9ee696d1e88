"""Requests that share a trace id are told apart where several users have it."""

import numpy as np

from heatshield_collector.detect.harm.reused_traces import KEPT, ReusedTraces


def test_an_id_of_two_users_tells_nothing_and_others_are_left_alone():
    reused = ReusedTraces()
    reused.note(np.array([7.0, 7.0, 8.0, 8.0, 9.0, 9.0]), np.array([1.0, 2.0, 3.0, 3.0, 4.0, -1.0]))
    first = reused.told_apart(np.array([7.0, 8.0, 7.0, 9.0]))
    assert first[1] == 8.0
    assert first[3] == 9.0
    second = reused.told_apart(np.array([7.0]))
    assert len({*first[[0, 2]].tolist(), *second.tolist(), 7.0}) == 4


def test_a_flood_of_ids_is_forgotten():
    reused = ReusedTraces()
    ids = np.repeat(np.arange(KEPT + 1.0), 2)
    reused.note(ids, np.arange(len(ids), dtype=float))
    assert reused.told_apart(np.array([0.0]))[0] == 0.0
    assert reused.told_apart(np.array([float(KEPT)]))[0] < 0

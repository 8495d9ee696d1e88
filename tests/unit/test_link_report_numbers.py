"""Charge reports are told from those that came before, in any order, in flat memory."""

import random
from dataclasses import replace

from report_bodies import report

from heatshield_collector.link import report_numbers
from heatshield_collector.link.report_numbers import HORIZON, ReportNumbers


def came(numbers, *order, instance="i-1"):
    return [numbers.is_new(replace(report(instance=instance), number=one)) for one in order]


def test_each_number_counts_once_in_whatever_order():
    dice, numbers = random.Random(5), ReportNumbers()
    order = [*range(1, 200), *range(1, 200)]
    dice.shuffle(order)
    new = came(numbers, *order)
    assert sum(new) == 199
    assert {number for number, counts in zip(order, new, strict=True) if counts} == set(order)
    assert numbers.duplicates == 199


def test_an_instance_that_restarts_has_an_id_and_numbers_of_its_own():
    numbers = ReportNumbers()
    assert came(numbers, 1, 2) == [True, True]
    assert came(numbers, 1, 2, instance="i-2") == [True, True]


def test_one_older_than_the_horizon_is_not_counted_as_it_may_have_been():
    numbers = ReportNumbers()
    assert came(numbers, HORIZON + 1, 2, 1) == [True, True, False]
    assert (numbers.duplicates, numbers.forgotten) == (0, 1)


def test_a_number_far_ahead_takes_no_memory():
    numbers = ReportNumbers()
    assert came(numbers, 1, 2**80, 2**80, 2**80 - 1) == [True, True, False, True]


def test_the_instance_that_was_silent_longest_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(report_numbers, "INSTANCES_MOST", 2)
    numbers = ReportNumbers()
    for name in ("a", "b", "a", "c"):
        came(numbers, 1, instance=name)
    assert came(numbers, 1, instance="a") == [False]
    assert came(numbers, 1, instance="b") == [True]

"""Rules that no series can match are typos, and a typo is told at the start."""

from pathlib import Path

import pytest
from control_platform import Platform

from heatshield import names
from heatshield_alerts.rules import SHIPPED_RULES, RuleError, check_series, load_file, load_text
from heatshield_alerts.series import METRIC_NAME
from heatshield_collector.control.rule_series import ELSEWHERE, RULE_SERIES

RULE = "groups: [{name: g, rules: [{alert: A, expr: '%s'}]}]"


def check(expression):
    return check_series(load_text(RULE % expression, "f.yaml"), RULE_SERIES, ELSEWHERE)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("heatshield_user_laod > 1", "called heatshield_user_laod; did you mean 'heatshield_user_"),
        (
            'heatshield_user_load{window="10m"} > 1',
            r'no heatshield_user_load matches window="10m"; did you mean \'1m\'\? \(there are 1s,',
        ),
        ('heatshield_user_load{windw!="1s"}', "no label 'windw'; did you mean 'window'"),
        ('heatshield_user_load{cost="errors"}', "there are busy, calls, elements"),
        ('heatshield_user_load{cost=~"bus|call"}', 'matches cost=~"bus|call"'),
        ('sum(heatshield_finding{class="hott"}) > 0', "did you mean 'hot'"),
        ('1 - topk(2, -heatshield_breakers{state="closed"})', "there are open, half_open"),
    ],
)
def test_a_selector_that_nothing_can_match_is_refused_with_the_nearest_known(expression, message):
    with pytest.raises(RuleError, match=message) as raised:
        check(expression)
    assert str(raised.value).startswith("f.yaml: group 'g' (A): expr: ")


def test_series_that_only_prometheus_sees_are_warned_of():
    (warning,) = check("up == 0")
    assert "up is not among the series" in warning
    (warning,) = check("heatshield_requests_total > 0")
    assert "never holds here" in warning


@pytest.mark.parametrize(
    "expression",
    [
        'heatshield_user_load{cost="busy", window=~"1s|10s", user!=""} > 1',
        'heatshield_call_load{cost="errors", service="any"} > heatshield_service_capacity',
        '{user="u"} > 1',
    ],
)
def test_what_can_be_there_is_not_complained_of(expression):
    assert check(expression) == []


def test_the_shipped_rules_and_every_series_fit_the_table():
    assert check_series(load_file(Path(str(SHIPPED_RULES))), RULE_SERIES, ELSEWHERE) == []
    broken = "heatshield_user_load + on (user) heatshield_user_load"
    rules = [*load_file(Path(str(SHIPPED_RULES))), *load_text(RULE % broken)]
    platform = Platform(rules=rules).warm()
    platform.burn(2.0)
    seen = {}
    for sample in platform.loop.samples():
        labels = dict(sample.labels)
        name = labels.pop(METRIC_NAME)
        seen.setdefault(name, []).append(labels)
    assert seen.keys() == RULE_SERIES.keys()
    for name, rows in seen.items():
        for labels in rows:
            # a finding about no resource has no such label
            assert RULE_SERIES[name].keys() - labels.keys() <= {"resource"}
            for label, value in labels.items():
                assert label in RULE_SERIES[name]
                assert not RULE_SERIES[name][label] or value in RULE_SERIES[name][label]
    assert names.REQUESTS in ELSEWHERE

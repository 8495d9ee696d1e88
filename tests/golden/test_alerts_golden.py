"""Alert scenarios: the same history through our runner and through ``promtool test rules``.

A scenario is a rule file and, for each series, its value at each step (``None``: the series is
gone). At every step both must have the same alerts firing, with the same labels and annotations.
"""

import json
import os
import shutil
import subprocess

import moments
import pytest
import yaml

from heatshield.names import FINDING
from heatshield_alerts import SHIPPED_RULES, InstantSamples, RuleRunner, Sample, load_text

PROMTOOL = shutil.which("promtool")
STEP_S = 1

HOT = {"class": "harmful", "user": "u-1", "service": "shop", "call": "POST /p", "cost": "busy"}


def _rules(**fields) -> str:
    rule = {"alert": "Hot", "expr": "load > 1", **fields}
    return yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": [rule]}]})


SCENARIOS = {
    "the shipped rule, kept firing for five seconds": (
        SHIPPED_RULES.read_text().replace("interval: 250ms", "interval: 1s"),
        {
            (FINDING, (*HOT.items(), ("window", "1s"))): [None, 0.5, 1.25] + [None] * 8,
            (FINDING, (*HOT.items(), ("window", "10s"))): [None, None, 2.5] + [None] * 8,
            (FINDING, tuple({**HOT, "class": "heavy"}.items())): [1.0] * 11,
        },
    ),
    "for: a gap while pending starts anew": (
        _rules(**{"for": "2s"}),
        {("load", (("user", "a"),)): [2, 2, 0, 2, 2, 2, 2, 0]},
    ),
    "keep_firing_for: a gap is bridged and counted from its start": (
        _rules(keep_firing_for="3s"),
        {("load", (("user", "a"),)): [2, 0, 0, 2, 0, 0, 0, 0, 2, 0]},
    ),
    "for and keep_firing_for, two users": (
        _rules(**{"for": "1s", "keep_firing_for": "2s", "labels": {"severity": "page"}}),
        {
            ("load", (("user", "a"),)): [2, 2, 2, 0, 0, 0, 2, 2, None, None, None],
            ("load", (("user", "b"),)): [0, 2, 0, 2, 2, 2, 2, 0, 0, 0, 0],
        },
    ),
    "templates": (
        _rules(
            labels={"severity": "page"},
            annotations={
                "plain": "{{ $value }} {{ $labels.user }} {{ $labels.nobody }}!",
                "printf": '{{ printf "%.2f|%8.3f|%e|%v" $value $value $value $value }}',
                "text": '{{ $labels.user | toUpper }} {{ printf "%s-%5s" "x" $labels.user }}',
                "humanize": "{{ humanize $value }} {{ $value | humanizePercentage }}",
                "duration": "{{ $value | humanizeDuration }}",
                "trim": "a {{- $value -}} b",
            },
        ),
        {
            ("load", (("user", "ab"),)): [
                1.5,
                100000,
                1e6,
                1234567.5,
                123456789,
                3661.25,
                90061,
            ]
        },
    ),
    "small numbers": (
        _rules(
            expr="load < 1",
            annotations={
                "plain": "{{ $value }}",
                "humanize": "{{ humanize $value }} {{ $value | humanizePercentage }}",
                "duration": "{{ $value | humanizeDuration }}",
            },
        ),
        {("load", ()): [0.1, 0.0001, 0.00001, 0.000012345, 0, -0.5, -1234.5, -90061]},
    ),
}


def ours(rules: str, series: dict) -> list[list[dict]]:
    """Alerts that fire, at each step."""
    runner = RuleRunner(load_text(rules))
    steps = []
    for at, values in enumerate(zip(*series.values(), strict=True)):
        samples = [
            Sample.of(name, dict(labels), value)
            for (name, labels), value in zip(series, values, strict=True)
            if value is not None
        ]
        done = runner.evaluate(InstantSamples(samples), moments.at(at * STEP_S))
        assert done.failures == ()
        firing = [
            {
                "exp_labels": {k: v for k, v in alert.labels.items() if k != "alertname"},
                "exp_annotations": dict(alert.annotations),
            }
            for alert in runner.firing
        ]
        steps.append(firing)
    return steps


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_fires_at_some_steps_and_not_at_others_or_is_about_text(name):
    """The scenarios are worth comparing: something fires, and (but for texts) not always."""
    rules, series = SCENARIOS[name]
    firing = [bool(step) for step in ours(rules, series)]
    assert any(firing)
    assert name in ("templates", "small numbers") or not all(firing)


@pytest.mark.skipif(
    PROMTOOL is None and not os.environ.get("CI"), reason="promtool is not installed"
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_prometheus_has_the_same_alerts_at_each_step(name, tmp_path):
    rules, series = SCENARIOS[name]
    (tmp_path / "rules.yaml").write_text(rules)
    alert = yaml.safe_load(rules)["groups"][0]["rules"][0]["alert"]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1s",
        "tests": [
            {
                "interval": "1s",
                "input_series": [
                    {
                        "series": str(Sample.of(metric, dict(labels), 0).labels),
                        "values": " ".join("stale" if v is None else repr(v) for v in values),
                    }
                    for (metric, labels), values in series.items()
                ],
                "alert_rule_test": [
                    {"eval_time": f"{at * STEP_S}s", "alertname": alert, "exp_alerts": firing}
                    for at, firing in enumerate(ours(rules, series))
                ],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps(test))
    ran = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

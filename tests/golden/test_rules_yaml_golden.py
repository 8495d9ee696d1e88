"""How rule files are written: what promtool accepts is accepted here and means the same."""

import json
import os
import shutil
import subprocess

import moments
import pytest

from heatshield_alerts import InstantSamples, RuleRunner, Sample, load_text
from heatshield_alerts.rules import RuleError

PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMTOOL is None and not os.environ.get("CI"), reason="promtool is not installed"
)

RULE = "groups: [{name: g, rules: [{alert: A, expr: up, %s}]}]"
GROUP = "groups: [{name: g, %s, rules: [{alert: A, expr: up}]}]"

TEXTS = [
    "1.10", "0755", "0o17", "0x1F", "1_000", "12:30:45", "1e3", "-0", ".inf", ".nan", "+.5",
    "true", "False", "yes", "on", "n", "2020-01-01", "2020-01-01T00:00:00Z", "null", "~", "''",
    "'null'", '"1.10"', "=", "<<", "!foo x", "!!int 5", "!!str 5", "!!float 1.10",
    "!!binary aGVsbG8=", "|\n  two\n  lines\n", ">-\n  two\n  lines\n", "é 李",
]  # fmt: skip
"""Values of a label or an annotation."""

MERGES = [
    'labels: &l {a: "1", b: "1"}}, {alert: B, expr: up, labels: {<<: *l, a: "2", c: 3}',
    'labels: &l {a: "1", b: "1"}}, {alert: B, expr: up, labels: {a: "2", <<: *l}',
    """labels: &l {a: 1}}, {alert: C, expr: up, labels: &m {a: 2, b: 2}},
    {alert: B, expr: up, labels: {<<: [*m, *l]}""",
    """labels: &l {a: 1}}, {alert: C, expr: up, labels: &m {<<: *l, a: 2, b: 0755}},
    {alert: B, expr: up, labels: {<<: *m, b: 3}""",
]
"""What follows ``alert: A, expr: up``; the last rule is B."""

FILES = [
    *(RULE % f"for: {text}" for text in ("0", "0s", "null", "5", "0x5", "''", "1.5", "1d12h")),
    *(GROUP % f"limit: {text}" for text in ("3", "0x10", "0755", "1_000", "3.7", "-1", "null")),
    *(GROUP % f"limit: {text}" for text in ("'3'", "true", "2020-01-01", "x", ".inf")),
    *(GROUP % f"interval: {text}" for text in ("0s", "0", "null", "15s", "15")),
    *(RULE % f"labels: {text}" for text in ("null", "[]", "''", "{}", "{true: x}", "{a: [b]}")),
    *(RULE % f"labels: {{a: {text}}}" for text in ("!!int x", "!!bool 5", "!!float 1.1.1")),
    RULE % "labels: {a: b, 'a': c}",
    RULE % "labels: {null: x}",
    RULE % "labels: &l {a: b}}, {alert: B, expr: up, labels: {<<: *l, <<: *l}",
    *(f"groups: [{{name: g, rules: [{{alert: {text}, expr: up}}]}}]" for text in TEXTS[:20]),
    *(f"groups: [{{name: g, rules: [{{alert: A, expr: {x}}}]}}]" for x in ("1", "0755", "null")),
    *(f"groups: [{{name: {text}, rules: []}}]" for text in ("0755", "true", "null", "''", "[g]")),
    "groups: [&g {name: g, rules: [&a {alert: A, expr: up}, {<<: *a}]}, {<<: *g, name: h}]",
    *("null", "", "groups:", "groups: [null]", "groups: {}", "groups: ''"),
    *(f"groups: [{{name: g, rules: {text}}}]" for text in ("null", "[null]", "{}", "''")),
]
"""Whole files, some of them wrong."""


def promtool(folder, *command):
    return subprocess.run(
        [str(PROMTOOL), *command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("text", FILES)
def test_a_file_is_accepted_exactly_if_promtool_accepts_it(text, tmp_path):
    (tmp_path / "rules.yaml").write_text(text)
    checked = promtool(tmp_path, "check", "rules", "rules.yaml")
    try:
        load_text(text)
        refused = ""
    except RuleError as error:
        refused = str(error)
    assert bool(refused) is bool(checked.returncode), refused + checked.stderr + checked.stdout


def same_alert(rules, name, folder):
    """Assert that promtool has the alert of this name that we have."""
    runner = RuleRunner(load_text(rules))
    runner.evaluate(InstantSamples([Sample.of("up", {}, 1.0)]), moments.at(0.0))
    (alert,) = [one for one in runner.firing if one.rule == name]
    expected = {
        "exp_labels": {k: v for k, v in alert.labels.items() if k != "alertname"},
        "exp_annotations": dict(alert.annotations),
    }
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1s",
        "tests": [
            {
                "interval": "1s",
                "input_series": [{"series": "up", "values": "1"}],
                "alert_rule_test": [
                    {"eval_time": "0s", "alertname": name, "exp_alerts": [expected]}
                ],
            }
        ],
    }
    (folder / "rules.yaml").write_text(rules)
    (folder / "test.yaml").write_text(json.dumps(test))
    ran = promtool(folder, "test", "rules", "test.yaml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_what_was_written(text, tmp_path):
    field = text.replace("\n", "\n          ")
    rules = f"""
groups:
  - name: g
    interval: 1s
    rules:
      - alert: A
        expr: up
        labels:
          severity: {field}
        annotations:
          summary: {field}
"""
    same_alert(rules, "A", tmp_path)


@pytest.mark.parametrize("merge", MERGES)
def test_what_is_merged_is_overridden_by_what_stands_there(merge, tmp_path):
    same_alert(RULE % merge, "B", tmp_path)

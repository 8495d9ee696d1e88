"""Rule files are read strictly, and errors say where and what to do."""

import os
import shutil
import subprocess

import pytest

from heatshield import names
from heatshield_alerts.action_labels import ACTION_LABEL
from heatshield_alerts.duration import parse_duration_s
from heatshield_alerts.rules import SHIPPED_RULES, RuleError, load_file, load_text
from heatshield_collector.api.stream import encode_event

RULE = "groups: [{name: g, rules: [{alert: A, expr: 'up > 0'%s}]}]"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("250ms", 0.25),
        ("5s", 5),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1m1ms", 60.001),
    ],
)
def test_durations_are_read_as_prometheus_writes_them(text, seconds):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "1s1h", "-1s", "1.5s", "1 s", "5S"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)


def test_a_whole_rule_file_is_read():
    (group,) = load_text(
        """
groups:
  - name: g
    interval: 250ms
    limit: 3
    rules:
      - alert: A
        expr: up{x="1"} > 0
        for: 1m
        keep_firing_for: 5s
        labels: {severity: page}
        annotations: {summary: "{{ $labels.x }}"}
      - alert: B
        expr: 1
        for: 0
"""
    )
    first, second = group.rules
    assert (group.name, group.interval_s) == ("g", 0.25)
    assert (first.name, first.for_s, first.keep_firing_for_s, first.limit) == ("A", 60, 5, 3)
    assert first.annotations["summary"].render({"x": "1"}, 0) == "1"
    assert (second.text, second.for_s, second.keep_firing_for_s) == ("1", 0, 0)


def test_a_text_is_kept_as_it_was_written():
    (group,) = load_text(
        """
groups:
  - name: 0755
    limit: 0x10
    rules:
      - alert: 1.10
        expr: 1
        labels: &base {a: 12:30:45, b: true, c: 2020-01-01, d: null, e: "null"}
      - alert: Second
        expr: 1
        labels: {<<: *base, a: 0755}
"""
    )
    first, second = group.rules
    assert (group.name, first.name, first.limit) == ("0755", "1.10", 16)
    texts = {name: template.text for name, template in first.labels.items()}
    assert texts == {"a": "12:30:45", "b": "true", "c": "2020-01-01", "d": "", "e": "null"}
    assert {name: template.text for name, template in second.labels.items()} == {
        **texts,
        "a": "0755",
    }


def test_an_empty_file_has_no_groups():
    assert load_text("") == ()
    assert load_text("groups:") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group: []", r"f.yaml: unknown key 'group'; did you mean 'groups'\?"),
        ("groups: [{nme: g}]", r"group 1: unknown key 'nme'; did you mean 'name'\?"),
        ("groups: [{name: g, intervall: 1s}]", "did you mean 'interval'"),
        (RULE % ", fro: 5s", r"group 'g', rule 1: unknown key 'fro'; did you mean 'for'\?"),
        (RULE % ", for: 5", r"group 'g', rule 1 \(A\): for: '5' is not a duration"),
        (RULE % ", for: true", r"\(A\): for: 'true' is not a duration"),
        (RULE % ", for: [1s]", r"\(A\): for is not a text"),
        (RULE % ", labels: {'a-b': x}", "labels: 'a-b' is not a label name"),
        (RULE % ", labels: {__name__: x}", "is not a label name"),
        (RULE % ", labels: [x]", "labels is not a mapping"),
        (RULE % ", annotations: {s: '{{ $x }}'}", r"annotations: s: '\$x' is not supported"),
        ("groups: [{name: g, rules: [{alert: A}]}]", r"\(A\): expr is missing"),
        ("groups: [{name: g, rules: [{expr: up}]}]", "alert is missing"),
        ("groups: [{name: g, rules: [{alert: A, expr: 'up >'}]}]", r"\(A\): expr: "),
        ("groups: [{name: g, rules: [{alert: A, expr: 'rate(a[1m])'}]}]", r"function rate\(\)"),
        ("groups: [{name: g, rules: [{record: a:b, expr: up}]}]", "recording rules are not"),
        ("groups: [{name: g}, {name: g}]", "group name 'g' is repeated"),
        ("groups: [{name: null}]", "group 1: name is missing"),
        ("groups: [{name: g, limit: '3'}]", "limit '3' is not a count"),
        ("groups: [{name: g, limit: .nan}]", "limit '.nan' is not a count"),
        (
            RULE % ", labels: {heatshield_mode: trickel}",
            r"\(A\): labels: heatshield_mode: 'trickel' has no meaning; did you mean 'trickle'\?",
        ),
        (RULE % ", labels: {heatshield_action: tripp}", r"'tripp' .* did you mean 'trip'\?"),
        (RULE % ", labels: {heatshield_actoin: trip}", r"did you mean 'heatshield_action'\?"),
        (RULE % ", labels: {heatshield_rate_per_s: 5/s}", "'5/s' is not a number of calls"),
        (RULE % ", annotations: {heatshield_probe_per_s: '0'}", "'0' is not a number of calls"),
        (RULE % ", annotations: {heatshield_lease: 0s}", "'0s' is no lease"),
        (RULE % ", annotations: {heatshield_lease: 1d}", "'1d' is no lease"),
        ("groups: {}", "groups is not a list"),
        ("groups: [{name: g, name: h}]", "key 'name' is repeated"),
        ("[", "f.yaml: "),
        ("hello", "expected a mapping, found 'hello'"),
    ],
)
def test_an_error_names_file_group_rule_and_the_nearest_key(text, message):
    with pytest.raises(RuleError, match=message) as raised:
        load_text(text, "f.yaml")
    assert str(raised.value).startswith("f.yaml")


def test_a_file_that_is_not_there_is_a_rule_error(tmp_path):
    with pytest.raises(RuleError, match=r"nothing\.yaml"):
        load_file(tmp_path / "nothing.yaml")


def test_the_shipped_rules_load_and_read_the_findings():
    group, itself = load_file(SHIPPED_RULES)
    (harmful, *told), (failing,) = group.rules, itself.rules
    assert failing.name == "RuleFailing"
    assert (harmful.name, group.interval_s, harmful.for_s) == ("HarmfulUser", 0.25, 0.0)
    assert [rule.name for rule in told] == ["HotUser", "Overload", "Budget"]
    assert all(names.FINDING in rule.text for rule in group.rules)
    acting = [rule.name for rule in group.rules if ACTION_LABEL in rule.labels]
    assert acting == ["HarmfulUser"], "who harms nobody is told of, and left alone"


@pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"),
    reason="promtool is not installed",
)
def test_promtool_accepts_the_shipped_rules():
    ran = subprocess.run(
        ["promtool", "check", "rules", str(SHIPPED_RULES)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_an_alert_of_a_file_says_can_be_sent_as_an_event():
    """Keys of JSON must be texts and nothing that only looks like one."""
    text = """
groups:
  - name: g
    rules:
      - alert: A
        expr: heatshield_finding > 1
        labels: {severity: page, "tier": 0755}
        annotations: {summary: "{{ $labels.user }}", null: ~}
"""
    ((rule,),) = (group.rules for group in load_text(text, "f.yaml"))
    assert {type(name) for name in [*rule.labels, *rule.annotations, rule.name]} == {str}
    labels = {name: template.render({"user": "u"}, 1.0) for name, template in rule.labels.items()}
    assert encode_event("alert", {"labels": labels}, "1")

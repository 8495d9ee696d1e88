"""The series of findings: bounded, the gravest first, and no user's where there is none."""

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield_alerts.series import METRIC_NAME
from heatshield_collector.control.series import FINDINGS_MOST, finding_samples
from heatshield_collector.detect import Finding


def finding(user="u-1", klass="hot", load=1.0, **more):
    key = CallKey(DEFAULT_TENANT, user, "shop", "POST /p")
    return Finding(klass, key, "busy", "1s", load, 0.0, "r", **more)


def labels(findings, nameless=""):
    return [
        dict(one.labels.drop(METRIC_NAME)) for one in finding_samples(findings, nameless)
    ]  # fmt: skip


def test_a_finding_is_a_series_with_what_it_suggests_and_what_it_is_about():
    (sample,) = finding_samples([finding(klass="harmful", action="pace", resource="Redis cart")])
    assert sample.value == 1.0
    assert dict(sample.labels.drop(METRIC_NAME)) == {
        "class": "harmful", "action": "pace", "resource": "Redis cart", "user": "u-1",
        "service": "shop", "call": "POST /p", "cost": "busy", "window": "1s",
    }  # fmt: skip


def test_an_overload_has_no_user_that_a_rule_could_cut():
    overload = finding(None, "overload", resource="Redis cart")
    assert "user" not in labels([overload])[0]
    assert labels([overload], "unknown")[0]["user"] == "unknown"


def test_there_are_so_many_series_and_no_more_and_the_gravest_are_among_them():
    many = [finding(f"u-{n}", "heavy", float(n)) for n in range(FINDINGS_MOST + 50)]
    shown = labels([*many, finding("u-x", "harmful", 0.1, action="pace")])
    assert len(shown) == FINDINGS_MOST
    assert [one["user"] for one in shown[:2]] == ["u-x", f"u-{FINDINGS_MOST + 49}"]

"""The rules of docs/rules.md: promtool takes them and their test, and they trip whom they say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from moments import at

from heatshield import names
from heatshield.contract import BreakerMode
from heatshield_alerts.rules import RuleRunner, load_text
from heatshield_alerts.series import InstantSamples, Sample
from heatshield_alerts.trip_policy import Evidence, Trip, decide

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
RULES, TEST = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SETTLED = Evidence(baseline_age_s=1_000.0)


def load(name, value, **labels):
    return Sample.of(name, {"cost": "busy", "window": "10s", **labels}, value)


def firing(*samples):
    """Alerts of the page's rules that fire when this has been so for a minute."""
    runner = RuleRunner(load_text(RULES))
    for second in range(61):
        runner.evaluate(InstantSamples(samples), at(second))
    return {alert.rule: alert for alert in runner.firing}


def test_a_call_beyond_its_budget_is_slowed_down():
    call = {"user": "u-1", "service": "reports", "call": "POST /exports/{id}"}
    alert = firing(load(names.USER_LOAD, 1.5, **call))["ExportBudget"]
    decision = decide(alert, SETTLED)
    assert isinstance(decision, Trip)
    assert decision.draft.key[1:] == ("u-1", "reports", "POST /exports/{id}")
    assert (decision.draft.mode, decision.draft.rate_per_s) == (BreakerMode.TRICKLE, 0.2)
    assert not firing(load(names.USER_LOAD, 0.9, **call))


def test_a_class_of_users_is_cut_at_its_share_of_capacity():
    call = {"service": "shop", "call": "POST /purchases"}
    capacity = Sample.of(names.SERVICE_CAPACITY, {"service": "shop"}, 4)
    bot = load(names.USER_LOAD, 0.6, user="bot-7", **call)
    person = load(names.USER_LOAD, 0.6, user="u-1", **call)
    alerts = firing(bot, person, capacity)
    assert set(alerts) == {"BotBudget"}
    assert alerts["BotBudget"].annotations["summary"] == "bot-7 has 15% of shop"
    decision = decide(alerts["BotBudget"], SETTLED)
    assert isinstance(decision, Trip)
    assert decision.draft.key[1:] == ("bot-7", "shop", "POST /purchases")
    assert decision.draft.mode is BreakerMode.PACE


def test_a_full_service_is_told_of_and_cuts_nobody():
    capacity = Sample.of(names.SERVICE_CAPACITY, {"service": "shop"}, 4)
    busy = [load(names.CALL_LOAD, 1.9, service="shop", call=call) for call in ("a", "b")]
    alerts = firing(*busy, capacity)
    assert alerts["ServiceFull"].annotations["summary"] == "shop keeps 3.8 workers busy"
    assert decide(alerts["ServiceFull"], SETTLED) is None


def test_the_rules_are_worth_checking():
    assert {rule["alert"] for rule in yaml.safe_load(RULES)["groups"][0]["rules"]} == {
        "ExportBudget",
        "BotBudget",
        "ServiceFull",
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "command", [("check", "rules", "my-rules.yaml"), ("test", "rules", "my-test.yaml")]
)
def test_promtool_takes_the_rules_and_passes_their_test(command, tmp_path):
    (tmp_path / "my-rules.yaml").write_text(RULES, encoding="utf-8")
    (tmp_path / "my-test.yaml").write_text(TEST, encoding="utf-8")
    done = subprocess.run(
        ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

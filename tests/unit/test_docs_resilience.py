"""docs/resilience.md says what the code does: its tables are held against it, its examples run."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
import stamina
import tenacity

import heatshield
from heatshield.context.deadline import HOP_S, DeadlineScope
from heatshield.integrations.rpc import downstream_grpc
from heatshield.names import BREAKER_HEADER
from heatshield.resilience import peer_breakers, retry_budget
from heatshield.resilience.attempts import RETRIES, Retries
from heatshield.resilience.downstream import FAIR_S
from heatshield.resilience.local_breaker import DEFAULT_RULES, TRANSITIONS
from heatshield.settings import ServiceSettings

PAGE = Path(__file__).parents[2].joinpath("docs", "resilience.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def _own_budgets(monkeypatch):
    for name, value in vars(Retries()).items():
        monkeypatch.setattr(RETRIES, name, value)


def table(head):
    """The rows of the table that begins with this cell."""
    lines = PAGE.partition(f"\n| {head} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows


def test_the_table_of_states_is_the_codes():
    assert table("state") == [
        (state.value, event.value, after.value)
        for state, row in TRANSITIONS.items()
        for event, after in row.items()
    ]


def test_the_table_of_defaults_is_the_codes():
    rules = DEFAULT_RULES
    shown = [float(default) for _, default, _ in table("what")]
    assert shown == [
        rules.failure_rate, rules.failure_requests, rules.slow_rate, rules.slow_requests,
        rules.slow_s, rules.window_s, rules.update_s, rules.open_s, rules.open_most_s,
        rules.trial_every_s,
    ]  # fmt: skip
    assert f"± {rules.jitter:.0%}".replace("%", " %") in PAGE
    assert ServiceSettings().local_breaker_slow_s == rules.slow_s


def test_the_other_figures_are_the_codes():
    assert f"At most {peer_breakers.MOST_BREAKERS:,} breakers" in TEXT
    assert peer_breakers.IDLE_S == 600
    assert "idle ones after ten minutes" in TEXT
    assert f"{retry_budget.SHARE:.0%}".replace("%", " %") in TEXT
    assert f"plus {retry_budget.RESERVE_PER_S:.0f} a second" in TEXT
    assert (retry_budget.TTL_S, FAIR_S, HOP_S) == (10, 1, 0.001)
    codes = {code.name for code in downstream_grpc.FAILURES}
    (row,) = [cells for cells in table("client") if cells[0] == "gRPC"]
    assert set(re.findall(r"\b[A-Z_]{4,}\b", row[3])) == codes


def test_the_defaults_are_what_it_says():
    settings = ServiceSettings()
    assert (settings.local_breakers, settings.deadlines) == (False, True)
    assert "| local breakers | off |" in PAGE
    assert "| deadlines | on," in PAGE


def run(name):
    (source,) = [one for one in EXAMPLES if f"def {name}(" in one]
    scope = {"__name__": "example"}
    exec(compile(source, "example", "exec"), scope)  # noqa: S102  # our own page
    return scope[name]


def answering(*responses):
    left, seen = list(responses), []

    def answer(request):
        seen.append(request)
        return left.pop(0)

    return httpx.MockTransport(answer), seen


def response(kind):
    return {
        "refused": lambda: httpx.Response(503, headers={BREAKER_HEADER: "b-1"}),
        "failed": lambda: httpx.Response(503),
        "fine": lambda: httpx.Response(200, json={"owns": True}),
    }[kind]()


def by_stamina(*kinds):
    """How often the example tries, and what it ends with."""
    transport, seen = answering(*map(response, kinds))

    async def owns():
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
            return await run("owns")(shop, "u-1", "cat")

    with stamina.set_testing(True, attempts=3):
        try:
            assert asyncio.run(owns())
        except (httpx.HTTPStatusError, heatshield.BreakerOpen) as error:
            return len(seen), type(error)
    return len(seen), None


def by_tenacity(*kinds):
    transport, seen = answering(*map(response, kinds))
    buy = run("buy")
    buy.retry.wait = tenacity.wait_none()
    with httpx.Client(transport=transport, base_url="http://shop") as shop:
        try:
            buy(shop, "u-1", "cat")
        except (httpx.HTTPStatusError, heatshield.BreakerOpen) as error:
            return len(seen), type(error)
    return len(seen), None


@pytest.mark.parametrize("example", [by_stamina, by_tenacity])
def test_the_retry_examples_retry_failures_and_no_rejections(example):
    assert example("refused") == (1, heatshield.BreakerOpen)
    assert example("failed", "fine") == (2, None)
    assert example("failed", "refused") == (2, heatshield.BreakerOpen)
    assert example("failed", "failed", "failed") == (3, httpx.HTTPStatusError)


def test_the_deadline_example_gives_a_deadline():
    transport, _ = answering(httpx.Response(200, json=7))
    with httpx.Client(transport=transport, base_url="http://shop") as shop:
        assert run("price")(shop, "cat") == 7
    assert isinstance(heatshield.deadline(2.0), DeadlineScope)

"""The pages of docs/: their examples run, their names exist, their links lead somewhere."""

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import httpx
import pytest
import stamina
import tenacity

import generate
import heatshield
import inventory
from heatshield import names
from heatshield.contract import EntryScope
from heatshield.declared_limit import LimitPer
from heatshield.identity.identify import SOURCES, Identity
from heatshield.settings import ServiceSettings, load
from heatshield_alerts import trip_policy
from heatshield_alerts.caps import Caps
from heatshield_alerts.rules.template import Template
from heatshield_collector.detect import COSTS, WINDOWS_S

DOCS = generate.REFERENCE.parent
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
WRITTEN = {name: text for name, text in PAGES.items() if name != generate.REFERENCE.name}

EXAMPLES = ("instrumenting.md", "identity.md", "metrics.md")
"""Pages whose examples need nothing that is not here."""

HTTP_503 = 503


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def run(block):
    """What a block of Python defines, in a process that is not to be instrumented."""
    scope = {"__name__": "example"}
    exec(compile(block, "example", "exec"), scope)  # noqa: S102  # our own pages
    return scope


def block_with(page, text):
    return next(block for block in blocks(page, "python") if text in block)


@pytest.fixture(autouse=True)
def _not_instrumented(monkeypatch):
    monkeypatch.setenv("HEATSHIELD_ENABLED", "false")


@pytest.mark.parametrize("block", [block for page in EXAMPLES for block in blocks(page, "python")])
def test_every_python_example_runs(block):
    run(block)


def answering(*responses):
    """A transport that gives these answers in turn, and the requests it was sent."""
    left, seen = list(responses), []

    def answer(request):
        seen.append(request)
        return left.pop(0)

    return httpx.MockTransport(answer), seen


REFUSED = {names.BREAKER_HEADER: "b-1", "retry-after": "7"}


async def owns(block, *responses):
    transport, seen = answering(*responses)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        try:
            return await run(block)["owns"](shop, "u-1", "cat"), len(seen)
        except heatshield.BreakerOpen as refusal:
            return refusal, len(seen)


def test_the_stamina_example_hands_a_refusal_on_and_retries_a_failure():
    import asyncio

    block = block_with("instrumenting.md", "import stamina")
    with stamina.set_testing(True, attempts=3):
        refusal, tries = asyncio.run(owns(block, httpx.Response(HTTP_503, headers=REFUSED)))
        assert (refusal.entry_id, refusal.retry_after_s, tries) == ("b-1", 7.0, 1)
        fine = httpx.Response(200, json={"owns": True})
        assert asyncio.run(owns(block, httpx.Response(HTTP_503), fine)) == (True, 2)


def test_the_tenacity_example_hands_a_refusal_on_and_retries_a_failure():
    buy = run(block_with("instrumenting.md", "import tenacity"))["buy"]
    buy.retry.wait = tenacity.wait_none()
    transport, seen = answering(httpx.Response(HTTP_503, headers=REFUSED))
    with (
        httpx.Client(transport=transport, base_url="http://shop") as shop,
        pytest.raises(heatshield.BreakerOpen),
    ):
        buy(shop, "u-1", "cat")
    assert len(seen) == 1
    transport, seen = answering(httpx.Response(HTTP_503), httpx.Response(201))
    with httpx.Client(transport=transport, base_url="http://shop") as shop:
        buy(shop, "u-1", "cat")
    assert len(seen) == 2


def test_the_guard_example_guards():
    example = run(block_with("instrumenting.md", "@heatshield.breaker"))
    assert example["report"]("u-1") == ["sticker of u-1"]


def test_the_owner_of_the_key_computes_the_pseudonym_that_services_send():
    pseudonym = run(block_with("identity.md", "hmac"))["pseudonym"]
    sent = Identity(ServiceSettings(user_key="secret")).known_as("u-17")
    assert pseudonym("secret", "u-17") == sent
    assert f"heatshield pseudonym u-17\n{sent}\n" in PAGES["identity.md"]


def test_the_sources_of_users_are_listed_in_their_order():
    table = PAGES["identity.md"].partition("## Which source")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert tuple(re.findall(r"`([a-z-]+)`", " ".join(first))) == SOURCES


@pytest.mark.parametrize(
    "block", [block for page in WRITTEN for block in blocks(page, "toml")], ids=lambda b: b[:12]
)
def test_every_settings_file_is_one(block, tmp_path):
    (tmp_path / "heatshield.toml").write_text(block, encoding="utf-8")
    for section in tomllib.loads(block):
        cls = inventory.SECTIONS[section]
        assert load(cls, section, environ={}, file=tmp_path / "heatshield.toml") != cls()


def names_in(module):
    return {value for value in vars(module).values() if isinstance(value, str)}


@pytest.mark.parametrize("page", WRITTEN)
def test_every_name_on_a_page_exists(page):
    text = WRITTEN[page]
    known = names_in(names) | names_in(trip_policy) | set(import_packages())
    said = set(re.findall(r"\bheatshield_\w+", text))
    assert {name.removesuffix("_bucket") for name in said} <= known
    assert set(re.findall(r"\bHEATSHIELD_[A-Z_]+", text)) <= set(variables())
    for path in re.findall(r"`((?:/v1|/api|/healthz|/readyz|/metrics)[\w/{}]*)`", text):
        assert path in routes(), path
    for called in re.findall(r"\bheatshield\.(\w+)\(", text):
        assert called in heatshield.__all__, called


def import_packages():
    return ("heatshield_alerts", "heatshield_collector", "heatshield_dashboards")


def variables():
    yield "HEATSHIELD_CONFIG"
    for section, cls in inventory.SECTIONS.items():
        for field in dataclasses.fields(cls):
            yield inventory.environment_variable(section, field.name)


def routes():
    return [*inventory.openapi()["paths"], *inventory.plain_routes()]


@pytest.mark.parametrize("page", WRITTEN)
def test_every_setting_in_code_font_exists(page):
    """`hot_share` and `name = value` are settings wherever a page has them."""
    known = {f.name for cls in inventory.SECTIONS.values() for f in dataclasses.fields(cls)}
    known |= set(EntryScope)  # some of which begin as settings do
    for name in re.findall(r"`([a-z][a-z0-9_]*) = [^`]+`", WRITTEN[page]):
        assert name in known
    known |= {"user_share", *LimitPer}  # of the policy file
    for name in re.findall(r"`((?:hot|retention|user|queue|batch|flush|cold)_\w+)`", WRITTEN[page]):
        assert name in known


@pytest.mark.parametrize("page", WRITTEN)
def test_every_command_on_a_page_takes_the_flags_it_is_given(page):
    commands = dict(inventory.commands())
    text = WRITTEN[page]
    lines = re.findall(r"^\$ .*?(heatshield \w.*)$", text, re.MULTILINE)
    lines += re.findall(r"`(heatshield [a-z][^`\n]*)`", text)
    for line in lines:
        mine = line.partition(" -- ")[0].split()
        words = " ".join(mine[:2])
        if " ".join(mine[:3]) in commands:
            words = " ".join(mine[:3])
        assert words in commands, line
        options = {name for one in commands[words].params for name in one.opts}
        assert {part for part in mine if part.startswith("--")} <= options, line


def anchors(text):
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        assert (DOCS / (target or page)).is_file(), target
        if anchor:
            assert anchor in anchors(PAGES[Path(target or page).name]), (target, anchor)


def test_the_rules_page_has_the_series_that_rules_can_ask_for():
    """Those of the control loop, with every cost and window."""
    from heatshield_collector.control import ControlLoop

    made = re.findall(r"names\.([A-Z_]+):", inspect.getsource(ControlLoop.series))
    table = PAGES["rules.md"].partition("## Series")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `(heatshield_\w+)`", table, re.MULTILINE))
    assert listed == {getattr(names, name) for name in made}
    for value in (*COSTS, *WINDOWS_S):
        assert f"`{value}`" in table


def test_the_rules_page_has_the_caps_and_the_functions_of_templates():
    caps = Caps()
    text = " ".join(PAGES["rules.md"].split())
    assert f"{caps.entries} entries, {caps.new_per_minute} new ones a minute" in text
    assert f"{caps.user_share:.0%}".replace("%", " %") + " of the active users" in text
    listed = re.search(r"Templates: (.+?)\. ", text)[1]
    for function in re.findall(r"`([a-z]\w+)`", listed):
        argument = '"%s" "x"' if function == "printf" else "1" if "human" in function else '"x"'
        Template(f"{{{{ {function} {argument} }}}}")


def test_the_metrics_page_has_every_metric_of_a_service_with_its_labels():
    """As a service that has served shows them."""
    from heatshield.metrics.families import OWN
    from heatshield.metrics.red import RED

    RED.observe("GET /documented", "ok", 0.01)
    table = PAGES["metrics.md"].partition("## What is counted")[2].partition("\n## ")[0]
    for family in OWN.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        kind, labels = (cell.strip() for cell in row.split("|")[2:4])
        assert kind == family.type
        shown = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert shown <= set(re.findall(r"`(\w+)`", labels)), name

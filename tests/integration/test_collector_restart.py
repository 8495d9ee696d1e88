"""A collector that is started anew on its folder goes on with what it had told people."""

import asyncio

from collector_webhook import webhook_server

from heatshield_collector.app import Collector
from heatshield_collector.settings import CollectorSettings

RULES = "groups: [{name: g, rules: [{alert: %s, expr: 1, labels: {service: shop}}]}]"


async def run(settings: CollectorSettings, told, expected: int) -> None:
    collector = Collector(settings)
    await collector.start()
    try:
        for _ in range(200):
            if len(told) >= expected:
                break
            await asyncio.sleep(0.05)
    finally:
        await collector.stop()


def test_who_was_told_firing_hears_resolved_after_a_restart(tmp_path):
    rules = tmp_path / "rules.yaml"
    with webhook_server() as (url, told):
        settings = CollectorSettings(
            data=str(tmp_path / "data"), grpc="off", rules=(str(rules),), notify=(url,)
        )
        rules.write_text(RULES % "Mine")
        asyncio.run(run(settings, told, 1))
        assert [one["title"] for one in told] == ["[FIRING] Mine: shop"]
        asyncio.run(run(settings, told, 1))
        assert len(told) == 1, "the same alert fires on"
        rules.write_text(RULES % "Other")
        asyncio.run(run(settings, told, 3))
    assert sorted(one["title"] for one in told[1:]) == [
        "[FIRING] Other: shop",
        "[RESOLVED] Mine: shop",
    ]

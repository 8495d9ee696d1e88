"""A collector that is started anew on its folder goes on with what it had told people."""

import asyncio
import time

import httpx
from collector_webhook import webhook_server
from export_requests import traces

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


async def counted(settings: CollectorSettings, payload: bytes) -> dict:
    """Deliver a payload to a collector of its own, and ask for the request that it is of."""
    collector = Collector(settings)
    await collector.start()
    try:
        transport = httpx.ASGITransport(collector.asgi(), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            sent = await client.post(
                "/v1/traces", content=payload, headers={"content-type": "application/x-protobuf"}
            )
            assert sent.status_code == 200
            listed = await client.get("/api/requests")
            (row,) = listed.json()["requests"]
            return row
    finally:
        await collector.stop()


def test_what_is_delivered_again_after_a_restart_counts_once(tmp_path):
    """As when the first process was killed before its answer had gone out."""
    settings = CollectorSettings(data=str(tmp_path / "data"), grpc="off", rules=())
    payload = traces([7], start_ns=time.time_ns())
    once = asyncio.run(counted(settings, payload))
    assert once["spans"] == 1
    assert asyncio.run(counted(settings, payload)) == once

"""What a whole collector shows of itself at ``/metrics``: everything that its parts count."""

import asyncio

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from heatshield import names
from heatshield.clock import ManualClock
from heatshield_collector.app import Collector
from heatshield_collector.settings import CollectorSettings


@pytest.fixture
def scrape(tmp_path):
    def run(before):
        async def scraped():
            collector = Collector(CollectorSettings(data=str(tmp_path), grpc="off"), ManualClock())
            await collector.start()
            before(collector)
            transport = httpx.ASGITransport(collector.asgi(), client=("127.0.0.1", 1))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:4318"
            ) as client:
                answer = await client.get(
                    "/metrics", headers={"accept": "application/openmetrics-text"}
                )
            await collector.stop()
            return {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            }

        return asyncio.run(scraped())

    return run


def test_what_the_parts_count_is_shown_and_no_table_is_counted_for_it(scrape):
    def before(collector):
        collector._journal.dropped = 3
        collector._state_keeper.failures = 2
        collector._core.control.failures = 4
        collector._notifier._count("failed")
        collector._store.sizes = None  # a scrape that counted tables would fail

    shown = scrape(before)
    assert shown[names.JOURNAL_DROPPED,] == 3
    assert shown[names.STATE_WRITE_FAILURES,] == 2
    assert shown[names.EVALUATION_FAILURES,] == 4
    assert shown[names.NOTIFICATIONS, "failed"] == 1
    assert shown[names.STORE_BYTES,] > 0

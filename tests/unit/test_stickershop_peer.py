"""What a service of the shop answers when a breaker refused its call to a peer."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

import heatshield
from heatshield_stickershop import peer


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_handed_on_with_its_status_and_its_marks(status):
    app = FastAPI()
    peer.answer_failures(app)

    @app.get("/")
    async def refused():
        raise heatshield.BreakerOpen("b-1", 2.0, status)

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert answer.headers["heatshield-breaker"] == "b-1"
    assert answer.headers["retry-after"] == "2"

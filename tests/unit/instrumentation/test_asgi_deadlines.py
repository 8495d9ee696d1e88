"""Over ASGI a deadline holds whoever set it: the caller, or the service's own middleware."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import heatshield


class Within:
    """A middleware of the service's own that gives each request so much time."""

    def __init__(self, app, seconds):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope, receive, send):
        with heatshield.deadline(self.seconds):
            await self.app(scope, receive, send)


@pytest.mark.parametrize(
    ("within_s", "header", "status"), [(0.0, None, 504), (None, "0", 200), (60.0, "0", 504)]
)
def test_a_deadline_that_the_services_own_middleware_sets_is_heeded(
    service, within_s, header, status
):
    service()

    async def view(_request):
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", view)], middleware=[Middleware(Within, seconds=within_s)])

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            headers = {} if header is None else {"heatshield-deadline": header}
            return await client.get("/", headers=headers)

    assert asyncio.run(ask()).status_code == status

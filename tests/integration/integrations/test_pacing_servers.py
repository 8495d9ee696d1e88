"""A paced user's calls wait in line where a server is asynchronous, and are answered 429 elsewhere.

The clock is moved by hand: a call that waits is let through when its turn has come, and not before.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import fastapi
import flask
import httpx
import pytest
from aiohttp import ClientSession, web

import heatshield
from heatshield.contract import BreakerMode, Delta, StateVersion
from heatshield.names import REJECTED, WAITED_US

BUY = "POST /purchases/{user}"

PACED = {
    "mode": BreakerMode.PACE,
    "issuer": "rule:HarmfulUser",
    "budget": 0.1,
    "cost_per_call": 0.1,
}
"""One call a second."""


@pytest.fixture
def shop(service):
    return service(user_path_parameter="user")


async def settle():
    """Let every task come to where it waits."""
    for _ in range(20):
        await asyncio.sleep(0.005)


@asynccontextmanager
async def fastapi_shop(ran):
    app = fastapi.FastAPI()

    @app.post("/purchases/{user}")
    async def buy(user: str) -> str:
        ran.append(user)
        return user

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:

        async def ask(path, **headers):
            return (await client.post(path, headers=headers)).status_code

        yield ask


@asynccontextmanager
async def aiohttp_shop(ran):
    async def buy(request):
        ran.append(request.match_info["user"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/purchases/{user}", buy)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with ClientSession() as client:

        async def ask(path, **headers):
            async with client.post(url + path, headers=headers) as answer:
                return answer.status

        yield ask
    await runner.cleanup()


SHOPS = pytest.mark.parametrize("serving", [fastapi_shop, aiohttp_shop])


@SHOPS
def test_calls_wait_for_their_turn_and_run_in_order(shop, serving):
    shop.trip("u-1", BUY, **PACED)
    ran = []

    async def main():
        async with serving(ran) as ask:
            calls = [asyncio.ensure_future(ask("/purchases/u-1")) for _ in range(3)]
            await settle()
            assert ran == ["u-1"]
            assert await ask("/purchases/u-2") == 200, "others don't wait"
            for turns in (2, 3):
                shop.clock.advance(1.0)
                await settle()
                assert ran.count("u-1") == turns
            assert await asyncio.gather(*calls) == [200] * 3

    asyncio.run(main())
    waited = sorted(span.attributes.get(WAITED_US, 0) for span in shop.spans if span.name == BUY)
    assert waited == [0, 0, 1_000_000, 2_000_000]


@SHOPS
def test_what_exceeds_the_line_is_answered_429_at_once(shop, serving):
    entry_id = shop.trip("u-1", BUY, waiting=1, **PACED)
    ran = []

    async def main():
        async with serving(ran) as ask:
            calls = [asyncio.ensure_future(ask("/purchases/u-1")) for _ in range(4)]
            await settle()
            assert [call.result() for call in calls if call.done()].count(429) == 2
            shop.clock.advance(1.0)
            assert sorted(await asyncio.gather(*calls)) == [200, 200, 429, 429]

    asyncio.run(main())
    refused = [span for span in shop.spans if span.attributes.get(REJECTED)]
    assert [span.attributes[REJECTED] for span in refused] == [entry_id] * 2
    assert len(ran) == 2


@SHOPS
def test_no_call_waits_past_its_deadline(shop, serving):
    shop.trip("u-1", BUY, **PACED)

    async def main():
        async with serving([]) as ask:
            assert await ask("/purchases/u-1") == 200
            assert await ask("/purchases/u-1", **{"heatshield-deadline": "500"}) == 429

    asyncio.run(main())


@SHOPS
def test_a_call_in_line_is_refused_if_its_user_is_refused_meanwhile(shop, serving):
    shop.trip("u-1", BUY, **PACED)
    ran = []

    async def main():
        async with serving(ran) as ask:
            calls = [asyncio.ensure_future(ask("/purchases/u-1")) for _ in range(2)]
            await settle()
            refuse(shop)
            shop.clock.advance(1.0)
            assert sorted(await asyncio.gather(*calls)) == [200, 503]

    asyncio.run(main())
    assert ran == ["u-1"]


def refuse(shop):
    """The entry that has paced refuses from now on."""
    table = shop.runtime.table
    (entry,) = table.entries
    at = StateVersion(table.at.epoch, table.at.version + 1)
    refusing = replace(entry, mode=BreakerMode.REJECT)
    table.apply(Delta(table.at, at, table.mode, (refusing,)), shop.clock.monotonic())


def test_whoever_goes_away_frees_the_place(shop):
    shop.trip("u-1", BUY, **PACED)
    ran = []

    async def main():
        async with fastapi_shop(ran) as ask:
            await ask("/purchases/u-1")
            gone = asyncio.ensure_future(ask("/purchases/u-1"))
            await settle()
            gone.cancel()
            await settle()
            calls = asyncio.ensure_future(ask("/purchases/u-1"))
            shop.clock.advance(1.0)
            assert await calls == 200

    asyncio.run(main())
    assert len(ran) == 2


def test_where_a_call_has_a_thread_it_is_answered_429_at_once(shop, serve_wsgi, ask):
    shop.trip("u-1", "POST /purchases/<user>", **PACED)
    app = flask.Flask("shop")

    @app.post("/purchases/<user>")
    def buy(user):
        return user

    url = serve_wsgi(app)
    assert ask(f"{url}/purchases/u-1", "POST").status == 200
    refused = ask(f"{url}/purchases/u-1", "POST")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["heatshield-breaker"] == "b-1"
    assert ask(f"{url}/purchases/u-2", "POST").status == 200
    shop.clock.advance(1.0)
    assert ask(f"{url}/purchases/u-1", "POST").status == 200


def test_a_guard_never_waits_as_it_may_hold_a_connection(shop):
    shop.trip("u-1", "refresh", **PACED)

    async def main():
        with heatshield.user("u-1"):
            async with heatshield.guard("refresh"):
                pass
            with pytest.raises(heatshield.BreakerOpen) as raised:
                async with heatshield.guard("refresh"):
                    pytest.fail("it ran")
        assert raised.value.status == 429

    asyncio.run(main())


def test_a_service_may_ask_and_take_its_cheap_path(shop):
    shop.trip("u-1", "refresh", mode=BreakerMode.FLAG, issuer="rule:HarmfulUser")
    with heatshield.user("u-1"):
        assert heatshield.tripped("refresh")
        assert not heatshield.tripped("other")
        with heatshield.guard("refresh"):
            pass
    assert not heatshield.tripped("refresh")

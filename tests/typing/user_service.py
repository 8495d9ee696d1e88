"""A service as somebody outside would write it, with every public name of heatshield.

Never run: mypy --strict must accept it, and must find what is marked as wrong.
"""

import asyncio
from typing import Any, assert_type

import httpx
import stamina
import tenacity

import heatshield
from heatshield import BreakerOpen, SettingsError

try:
    heatshield.instrument(service="shop", user_header="x-user-id", excluded_paths=("/healthz",))
    heatshield.instrument("shop", endpoint="http://127.0.0.1:4318", workers=2, enforce=False)
    heatshield.instrument()
except SettingsError as wrong:
    raise SystemExit(str(wrong)) from wrong


def nothing(user: str) -> list[str]:
    return []


@heatshield.breaker("ownership.refresh", fallback=nothing)
def refresh(user: str) -> list[str]:
    heatshield.user(user)
    with heatshield.user(user):
        heatshield.cost(rows=1)
    heatshield.cost(elements=20_000)
    heatshield.cost(rows=1, bytes=2_048)
    assert_type(heatshield.tripped("ownership.write"), bool)
    with heatshield.guard("ownership.write") as guard:
        assert_type(guard.name, str)
    return [user]


def consume(messages: list[object]) -> None:
    for message in messages:
        with heatshield.processing(message):
            refresh("u-1")


@heatshield.breaker("ownership.read")
async def read(user: str, *, limit: int = 10) -> dict[str, int]:
    async with heatshield.guard("ownership.query"):
        return {user: limit}


async def ask(client: httpx.AsyncClient, user: str) -> httpx.Response | float:
    response = await client.get(f"/owns/{user}")
    if heatshield.is_rejection(response):
        try:
            heatshield.raise_for_rejection(response)
        except BreakerOpen as refused:
            assert_type(refused.entry_id, str)
            assert_type(refused.headers, dict[str, str])
            return refused.retry_after_s
    return response


@stamina.retry(on=heatshield.retry.on(httpx.HTTPError, lambda error: bool(error.args)), attempts=3)
async def price(client: httpx.AsyncClient) -> float:
    with heatshield.deadline(2.0):
        return float((await client.get("/price")).text)


@tenacity.retry(retry=heatshield.retry.if_allowed(tenacity.retry_if_exception_type(OSError)))
def pay(amount: int) -> str:
    try:
        return f"{amount}"
    except heatshield.DeadlineExceeded as expired:
        assert_type(expired.call, str)
        raise


def main() -> None:
    assert_type(refresh("u-1"), list[str])
    assert_type(asyncio.run(read("u-1", limit=2)), dict[str, int])
    assert_type(heatshield.flush(), bool)
    heatshield.enforce(True)
    assert_type(heatshield.status(), dict[str, Any])
    heatshield.shutdown()

    # What is wrong is found; an ignore that is not needed would be an error by itself.
    refresh(1)  # type: ignore[arg-type]
    read("u-1", limt=2)  # type: ignore[call-arg,unused-coroutine]
    heatshield.user(7)  # type: ignore[arg-type]
    heatshield.cost(element=1)  # type: ignore[call-arg]
    heatshield.guard(None)  # type: ignore[arg-type]
    heatshield.deadline("soon")  # type: ignore[arg-type]
    heatshield.retry.on("ValueError")  # type: ignore[arg-type]
    heatshield.is_rejection("503")  # type: ignore[arg-type]

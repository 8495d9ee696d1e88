"""The load's own HTTP client, against servers that behave and servers that don't."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from heatshield_stickershop.connections import Connections, NoAnswer


@asynccontextmanager
async def serving(*answers, close_after=False):
    """A server that gives these answers, one after another, on any number of connections."""
    left, seen = list(answers), []

    async def serve(reader, writer):
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            seen.append((writer.get_extra_info("peername"), head, body))
            writer.write(left.pop(0))
            if close_after:
                break
        if close_after:
            writer.close()
        else:
            await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()


def answer(status, *headers, body=b""):
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_request_is_sent_as_given_and_its_answer_read():
    async def scenario():
        async with (
            serving(answer(503, "Heatshield-Breaker: b-1", body=b"no")) as (url, seen),
            Connections(url, 2.0) as connections,
        ):
            got = await connections.post("/messages", {"x-user-id": "u-1"}, b"{}")
            return got, seen

    got, [(_, head, body)] = asyncio.run(scenario())
    assert (got.status, got.headers["heatshield-breaker"]) == (503, "b-1")
    assert head.startswith(b"POST /messages HTTP/1.1\r\n")
    assert b"\r\nx-user-id: u-1\r\n" in head
    assert body == b"{}"


@pytest.mark.parametrize(("headers", "connections_used"), [((), 1), (("Connection: close",), 2)])
def test_a_connection_is_used_again_unless_the_server_ends_it(headers, connections_used):
    async def scenario():
        async with (
            serving(answer(201, *headers), answer(202)) as (url, seen),
            Connections(url, 2.0) as connections,
        ):
            statuses = [(await connections.post("/")).status for _ in range(2)]
            return statuses, seen

    statuses, seen = asyncio.run(scenario())
    assert statuses == [201, 202]
    assert len({peer for peer, _, _ in seen}) == connections_used


def test_a_connection_that_the_server_closed_while_idle_is_not_used_again():
    async def scenario():
        async with (
            serving(answer(201), answer(202), close_after=True) as (url, _),
            Connections(url, 2.0) as connections,
        ):
            first = await connections.post("/")
            await asyncio.sleep(0.05)
            return first.status, (await connections.post("/")).status

    assert asyncio.run(scenario()) == (201, 202)


@pytest.mark.parametrize("broken", [b"", b"this is not HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nCont"])
def test_a_broken_answer_is_no_answer(broken):
    async def scenario():
        async with (
            serving(broken, close_after=True) as (url, _),
            Connections(url, 2.0) as connections,
        ):
            await connections.post("/")

    with pytest.raises(NoAnswer):
        asyncio.run(scenario())


def test_an_answer_that_takes_too_long_is_no_answer():
    async def scenario():
        async with serving(b"") as (url, _), Connections(url, 0.05) as connections:
            await connections.post("/")

    with pytest.raises(NoAnswer, match="TimeoutError"):
        asyncio.run(scenario())


def test_a_server_that_is_not_there_is_no_answer():
    async def scenario():
        async with serving() as (url, _):
            pass
        async with Connections(url, 2.0) as connections:
            await connections.post("/")

    with pytest.raises(NoAnswer):
        asyncio.run(scenario())

"""Three services in a row, as processes: a user is cut at the third; the second stops asking."""

import json
import time
from http.client import HTTPConnection

import pytest

from heatshield.breakers.caller_gate import LEARNED_S

UVICORN = ("--port", "{port}", "--log-level", "warning")
CALL = "GET /stock/{item}"

THIRD = """
import os
from fastapi import FastAPI

app = FastAPI()

@app.get("/stock/{item}")
async def stock(item: int):
    return {"left": item}


async def counted(scope, receive, send):
    if scope["type"] == "http":
        with open(os.environ["ARRIVALS"], "a") as file:
            baggage = dict(scope["headers"]).get(b"baggage", b"").decode()
            file.write(baggage + chr(10))
    await app(scope, receive, send)
"""

SECOND = """
import os
import aiohttp, fastapi, httpx, requests, stamina, tenacity, urllib3
import heatshield

app = fastapi.FastAPI()
BACK = os.environ["THIRD"]
attempts = []
stamina.set_testing(False)


@stamina.retry(on=heatshield.retry.on(httpx.HTTPError), attempts=3, wait_initial=0.01)
async def by_httpx(url):
    attempts.append(url)
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).raise_for_status().json()


@tenacity.retry(retry=heatshield.retry.if_allowed(), stop=tenacity.stop_after_attempt(3))
def requested(url):
    attempts.append(url)
    answer = requests.get(url, timeout=5)
    answer.raise_for_status()
    return answer.json()


async def by_requests(url):
    return await fastapi.concurrency.run_in_threadpool(requested, url)


def pooled(url):
    attempts.append(url)
    retries = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0)
    answer = urllib3.PoolManager(retries=retries).request("GET", url)
    if answer.status != 200:
        raise fastapi.HTTPException(answer.status)
    return answer.json()


async def by_urllib3(url):
    return await fastapi.concurrency.run_in_threadpool(pooled, url)


async def by_aiohttp(url):
    attempts.append(url)
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.get(url) as answer:
            return await answer.json()


@app.get("/offer/{item}")
async def offer(item: int):
    return await globals()["by_" + os.environ["CLIENT"]](f"{BACK}/stock/{item}")


@app.get("/status")
def status():
    return {"attempts": len(attempts), **heatshield.status()["downstream"]}
"""

FIRST = """
import os
import fastapi, httpx
import heatshield

app = fastapi.FastAPI()


@app.get("/page/{user}/{item}")
async def page(user: str, item: int):
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{os.environ['SECOND']}/offer/{item}")
    return fastapi.Response(answer.content, answer.status_code)


@app.get("/status")
def status():
    return heatshield.status()["downstream"]
"""


@pytest.fixture
def row(deploy, collector, until, tmp_path):
    """Starts the three; the first and the second, and what has arrived at the third."""
    for name, code in {"first": FIRST, "second": SECOND, "third": THIRD}.items():
        (tmp_path / f"{name}.py").write_text(code)
    arrivals = tmp_path / "arrivals"
    arrivals.touch()

    def start(client):
        third = _serve(deploy, "third:counted", "third", ARRIVALS=str(arrivals))
        more = {"HEATSHIELD_LOCAL_BREAKERS": "true", "CLIENT": client}
        second = _serve(deploy, "second:app", "second", THIRD=_url(third), **more)
        first = _serve(deploy, "first:app", "first", SECOND=_url(second), **more)
        return first, second

    def arrived(user):
        return arrivals.read_text().count(f"enduser.id={user}\n")

    start.arrived = arrived
    return start


def _serve(deploy, app, service, **env):
    made = deploy("-m", "uvicorn", app, *UVICORN, env={"HEATSHIELD_SERVICE": service, **env})
    made.wait_ready()
    return made


def _url(server):
    return f"http://127.0.0.1:{server.port}"


def get(server, path):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("client", ["httpx", "requests", "urllib3", "aiohttp"])
def test_a_cut_users_call_does_not_travel_to_the_third(row, collector, until, client):
    """Nothing is retried, no local breaker counts it, and nobody calls raise_for_rejection."""
    first, second = row(client)
    for user in ("u-cut", "u-other"):
        assert get(first, f"/page/{user}/1")[0] == 200
    entry_id = collector.grant("u-cut", CALL, service="third")
    until(lambda: get(first, "/page/u-cut/1")[0] == 503)
    until(lambda: sum(report["applied"] == "1.2" for _, report in collector.reports) >= 3)
    get(first, "/page/u-cut/1")
    asked, before = 30, row.arrived("u-cut")
    attempts = json.loads(get(second, "/status")[2])["attempts"]

    began = time.monotonic()
    for item in range(asked):
        status, headers, _ = get(first, f"/page/u-cut/{item}")
        assert (status, headers["heatshield-breaker"]) == (503, entry_id)
        assert int(headers["retry-after"]) >= 1
        assert "heatshield-breaker-at" not in headers  # the entry does not name the first's call
        assert get(first, f"/page/u-other/{item}")[0] == 200

    took_s = time.monotonic() - began
    travelled = row.arrived("u-cut") - before
    assert travelled <= 1 + took_s / LEARNED_S, "one in five seconds, to learn anew"
    assert travelled < asked / 2
    assert row.arrived("u-other") == 1 + asked
    found = json.loads(get(second, "/status")[2])
    assert found["attempts"] - attempts == 2 * asked, "the first asked each time, and no retry"
    assert found["retries_allowed"] == 0
    for server in (first, second):
        breakers = json.loads(get(server, "/status")[2])["local_breakers"]
        assert set(breakers.values()) <= {"closed"}
    until(lambda: _counted(collector, entry_id) >= asked)  # demand that did not travel, too


def _counted(collector, entry_id):
    rows = [row for _, report in collector.reports for row in report["rejected"]]
    return sum(row["count"] for row in rows if row["id"] == entry_id)

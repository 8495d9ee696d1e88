"""``POST /v1/charges``: every status and its text, what is counted, without a network."""

import asyncio
import gzip
import threading

import httpx
import pyarrow as pa
import pytest
from report_bodies import body, report
from starlette.applications import Starlette
from starlette.datastructures import Headers

from heatshield.charge_report import Pair
from heatshield.clock import SystemClock
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.intake import charge_reports
from heatshield_collector.intake.charge_reports import charge_routes
from heatshield_collector.intake.payload import OverloadedError
from heatshield_collector.pipeline import ReportPipeline
from heatshield_collector.pipeline import charge_reports as pipeline

TOKEN = "of all callers"  # noqa: S105
JSON = {"content-type": "application/json"}
SENT = report(Pair("u-1", "POST /p", cpu_us=900, calls=1))


class Counting:
    """Counts reports as :class:`Analysis` does; fails while it is told to."""

    def __init__(self):
        self.reports = []
        self.threads = set()
        self.refused_causes = []
        self.error = None
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def report(self, reports, _now):
        self.entered.set()
        assert self.gate.wait(30)
        self.threads.add(threading.current_thread().name)
        if self.error:
            raise self.error
        counted = [one not in self.reports for one in reports]
        self.reports += reports
        return counted

    def refused(self, cause):
        self.refused_causes.append(cause)


def ask(counting, *bodies, headers=JSON, method="POST", token=""):
    """The answers, in turn, of a running pipeline behind the route."""
    taker = ReportPipeline(counting, SystemClock())
    taker.start()
    routes = charge_routes(taker, counting, AdminTokenAuthenticator(token=token))
    app = Starlette(routes=routes)

    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            return [
                await client.request(method, "/v1/charges", content=one, headers=headers)
                for one in bodies
            ]

    try:
        return asyncio.run(send())
    finally:
        taker.stop()


def test_a_report_is_counted_once_and_on_another_thread():
    counting = Counting()
    answers = ask(counting, body(SENT), body(SENT))
    assert [one.status_code for one in answers] == [200, 200]
    assert [one.json() for one in answers] == [{"counted": True}, {"counted": False}]
    assert counting.reports[0] == SENT
    assert counting.threads == {"heatshield-reports"}
    assert counting.refused_causes == []


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_report_may_be_compressed(coding):
    packed = (
        gzip.compress(body(SENT))
        if coding == "gzip"
        else pa.compress(body(SENT), "zstd", asbytes=True)
    )
    counting = Counting()
    (answer,) = ask(counting, packed, headers=JSON | {"content-encoding": coding})
    assert (answer.status_code, counting.reports) == (200, [SENT])


LARGE = b'{"service": "' + b"x" * charge_reports.LIMIT_BYTES + b'"}'

REFUSED = [
    (b"{", JSON, 400, "malformed", "the body is not JSON"),
    (b"[]", JSON, 400, "malformed", "charge report is not an object"),
    (b'{"service": 7}', JSON, 400, "malformed", "service is not a non-empty string: 7"),
    (b"no gzip", JSON | {"content-encoding": "gzip"}, 400, "malformed", "not valid gzip"),
    (b"{}", JSON | {"content-encoding": "br"}, 415, "unsupported", "br"),
    (b"{}", {"content-type": "text/plain"}, 415, "unsupported", "text/plain"),
    (
        b"{}",
        {"content-type": "application/x-protobuf"},
        415,
        "unsupported",
        "a charge report is application/json",
    ),
    (LARGE, JSON, 413, "too_large", "over 524288 bytes"),
    (
        gzip.compress(LARGE),
        JSON | {"content-encoding": "gzip"},
        413,
        "too_large",
        "over 524288 bytes once inflated",
    ),
]


@pytest.mark.parametrize(
    ("sent", "headers", "status", "cause", "text"),
    REFUSED,
    ids=[f"{row[2]} {row[4]}" for row in REFUSED],
)
def test_what_is_no_report_is_refused_with_a_text_that_says_why(sent, headers, status, cause, text):
    counting = Counting()
    (answer,) = ask(counting, sent, headers=headers)
    assert answer.status_code == status
    assert text in answer.json()["error"]
    assert (counting.refused_causes, counting.reports) == ([cause], [])


def test_another_method_is_told_which_one_it_takes():
    (answer,) = ask(Counting(), b"", method="GET")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"error": "GET is not for /v1/charges; it takes POST"}


def test_without_the_token_of_all_callers_nothing_is_read():
    counting = Counting()
    (refused,) = ask(counting, body(SENT), token=TOKEN)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    (taken,) = ask(
        counting, body(SENT), token=TOKEN, headers=JSON | {"authorization": f"Bearer {TOKEN}"}
    )
    assert (taken.status_code, counting.reports) == (200, [SENT])


def test_a_failure_of_ours_is_500_and_the_next_report_is_counted():
    counting = Counting()
    counting.error = ZeroDivisionError()
    (answer,) = ask(counting, body(SENT))
    assert (answer.status_code, counting.refused_causes) == (500, ["internal"])
    counting.error = None
    assert ask(counting, body(SENT))[0].json() == {"counted": True}


def test_beyond_the_bound_reports_are_refused_until_there_is_room(monkeypatch):
    """The bound counts what waits; the sender is told when to try again."""
    monkeypatch.setattr(pipeline, "QUEUE_BYTES", 100)
    counting = Counting()
    counting.gate.clear()

    async def play():
        taker = ReportPipeline(counting, SystemClock())
        taker.start()
        held = asyncio.create_task(taker.submit(60, lambda: SENT))
        await asyncio.to_thread(counting.entered.wait, 30)
        waiting = asyncio.create_task(taker.submit(60, lambda: SENT))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            await taker.submit(60, lambda: SENT)
        counting.gate.set()
        answers = await held, await waiting
        taker.stop()
        return refused.value.retry_after_s, answers

    assert asyncio.run(play()) == (1.0, (True, False))


def test_slow_bodies_hold_no_more_together_than_their_bound():
    """And what one held is free again when it is complete, or its sender leaves."""
    room = charge_reports._Room(100)
    sent = [{"type": "http.request", "body": bytes(60), "more_body": True}]
    end = [{"type": "http.request", "body": b"", "more_body": False}]

    def receiving(messages):
        left = list(messages)

        async def receive():
            return left.pop(0)

        return receive

    async def read(*messages):
        return await charge_reports._body(Headers(), receiving(messages), room)

    async def play():
        assert len(await read(*sent, *end)) == 60
        with pytest.raises(OverloadedError):
            await read(*sent, *sent, *end)
        with pytest.raises(charge_reports._DisconnectedError):
            await read(*sent, {"type": "http.disconnect"})
        return room.free_bytes

    assert asyncio.run(play()) == 100

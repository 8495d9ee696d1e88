"""Bodies of OTLP/HTTP as they come in: in pieces, without end, too many at once."""

import asyncio
import threading
from collections.abc import Iterable

import pytest
from recording_committer import RecordingCommitter

from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.intake import http
from heatshield_collector.intake.content import AbandonedError
from heatshield_collector.intake.http import routes
from heatshield_collector.intake.json import Converted
from heatshield_collector.intake.payload import Payload

LIMIT = 100_000
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


class Sender:
    """Sends a body in pieces and remembers how far it was read and what it was answered."""

    def __init__(self, pieces: Iterable[bytes], *, hangs_up: bool = False) -> None:
        self._pieces = iter(pieces)
        self._hangs_up = hangs_up
        self.read = 0
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        piece = next(self._pieces, None)
        if piece is None:
            kind = "http.disconnect" if self._hangs_up else "http.request"
            return {"type": kind, "body": b"", "more_body": False}
        self.read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]


def scope_of(**headers: str) -> dict:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/traces",
        "headers": [(b"content-type", b"application/x-protobuf"), *pairs],
    }


def endpoint_of(committer: RecordingCommitter):
    return routes(committer, LIMIT, committer, AdminTokenAuthenticator())[0].app


def speak(endpoint, sender: Sender, **headers: str) -> None:
    asyncio.run(endpoint(scope_of(**headers), sender.receive, sender.send))


def test_a_body_in_pieces_is_put_together() -> None:
    committer = RecordingCommitter()
    sender = Sender([b"ab", b"", b"cd"])
    speak(endpoint_of(committer), sender)
    assert sender.status == 200
    assert committer.payloads == [Payload("traces", b"abcd")]


def test_a_body_without_end_is_refused_while_it_comes_in() -> None:
    """Nothing says its size beforehand; reading stops at the first piece beyond the limit."""
    committer = RecordingCommitter()
    sender = Sender(bytes(1000) for _ in range(10**9))
    speak(endpoint_of(committer), sender)
    assert sender.status == 413
    assert sender.read <= LIMIT + 1000


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    sender = Sender([b"abc"])
    speak(endpoint_of(RecordingCommitter()), sender, content_length=str(LIMIT + 1))
    assert (sender.status, sender.read) == (413, 0)


@pytest.mark.parametrize("length", ["", "-1", "x", "²", "99999999999999999999999"])
def test_a_content_length_that_lies_is_not_believed(length) -> None:
    sender = Sender([b"abc"])
    speak(endpoint_of(RecordingCommitter()), sender, content_length=length)
    assert sender.status in (200, 413)


def test_a_sender_that_hangs_up_midway_commits_nothing() -> None:
    committer = RecordingCommitter()
    sender = Sender([b"half of a payload"], hangs_up=True)
    speak(endpoint_of(committer), sender)
    assert (sender.sent, committer.payloads, committer.refused_causes) == ([], [], [])


def test_unfinished_bodies_have_bounded_room_together_and_give_it_back() -> None:
    """Slow senders of large bodies get 503 beyond the room, and room is free once they end."""
    committer = RecordingCommitter()
    endpoint = endpoint_of(committer)

    async def scene() -> None:
        go_on, all_wait = asyncio.Event(), asyncio.Event()
        waiting = 0

        async def one(sender: Sender) -> None:
            async def receive() -> dict:
                nonlocal waiting
                if sender.read:
                    waiting += 1
                    if waiting == len(slow):
                        all_wait.set()
                    await go_on.wait()
                return await sender.receive()

            await endpoint(scope_of(), receive, sender.send)

        slow = [Sender([bytes(LIMIT)]) for _ in range(2)]
        tasks = [asyncio.create_task(one(sender)) for sender in slow]
        await all_wait.wait()
        late = Sender([bytes(10)])
        await one_now(endpoint, late)
        assert late.status == 503
        assert committer.refused_causes == ["overload"]
        go_on.set()
        await asyncio.gather(*tasks)
        assert [sender.status for sender in slow] == [200, 200]
        again = Sender([bytes(10)])
        await one_now(endpoint, again)
        assert again.status == 200

    asyncio.run(scene())


async def one_now(endpoint, sender: Sender) -> None:
    await endpoint(scope_of(), sender.receive, sender.send)


class Crowd:
    """Stands in for work on a thread: notes how many are at it at once, until told to go on."""

    def __init__(self, made: object) -> None:
        self.made = made
        self.began = threading.Event()
        self.go_on = threading.Event()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def work(self, *_: object) -> object:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.began.set()
        self.go_on.wait(10)
        with self._lock:
            self._now -= 1
        return self.made


async def together(crowd: Crowd, endpoint, scope: dict, senders: list[Sender], meanwhile) -> None:
    """All of them send; ``meanwhile`` is done while the first threads are at work."""
    tasks = [asyncio.create_task(endpoint(scope, one.receive, one.send)) for one in senders]
    assert await asyncio.to_thread(crowd.began.wait, 10)
    # Work that is let through at all has begun by the time another thread has come and gone.
    for _ in range(len(senders)):
        await asyncio.to_thread(int)
    await meanwhile()
    crowd.go_on.set()
    await asyncio.gather(*tasks)


async def nothing() -> None:
    """Nothing is done meanwhile."""


@pytest.mark.parametrize(
    ("headers", "work", "most"),
    [
        ({"content_encoding": "gzip"}, "inflate", 2),
        ({"content_type": "application/json"}, "protobuf_from_json", 1),
    ],
    ids=["inflating", "converting"],
)
def test_few_bodies_are_worked_on_at_once(monkeypatch, headers, work, most) -> None:
    """What they become is bounded by their number, and conversions would starve other threads."""
    crowd = Crowd(Converted(b"") if work == "protobuf_from_json" else b"")
    monkeypatch.setattr(http, work, crowd.work)
    scope = scope_of(**headers)
    scope["headers"].reverse()  # the content type given here goes before the usual one
    senders = [Sender([bytes(9_000)]) for _ in range(4)]
    endpoint = endpoint_of(RecordingCommitter())
    asyncio.run(together(crowd, endpoint, scope, senders, nothing))
    assert crowd.most == most
    assert [sender.status for sender in senders] == [200] * 4


def test_bodies_that_wait_to_be_inflated_still_hold_their_room(monkeypatch) -> None:
    crowd = Crowd(b"")
    monkeypatch.setattr(http, "inflate", crowd.work)
    endpoint = endpoint_of(RecordingCommitter())
    late = Sender([bytes(10)])
    senders = [Sender([bytes(LIMIT)]) for _ in range(2)]
    scope = scope_of(content_encoding="gzip")
    asyncio.run(together(crowd, endpoint, scope, senders, lambda: one_now(endpoint, late)))
    assert late.status == 503
    assert [sender.status for sender in senders] == [200, 200]
    again = Sender([bytes(10)])
    asyncio.run(one_now(endpoint, again))
    assert again.status == 200


@pytest.mark.parametrize(
    "headers",
    [{"content_encoding": "gzip"}, {"content_type": "application/json"}],
    ids=["inflating", "converting"],
)
def test_a_sender_that_leaves_meanwhile_is_worked_for_no_longer(monkeypatch, headers) -> None:
    """Its room is free at once, the work is told to stop, and nothing is committed."""
    began, stopped = threading.Event(), threading.Event()

    def inflate(_body, _coding, _limit, abandoned):
        began.set()
        while not abandoned():
            pass
        stopped.set()
        raise AbandonedError

    class Leaving(Sender):
        async def receive(self) -> dict:
            if self.read:
                await asyncio.to_thread(began.wait, 10)
                return {"type": "http.disconnect"}
            self.read = LIMIT
            return {"type": "http.request", "body": bytes(LIMIT), "more_body": False}

    monkeypatch.setattr(http, "inflate", inflate)
    committer = RecordingCommitter()
    endpoint = endpoint_of(committer)
    scope = scope_of(**headers)
    scope["headers"].reverse()

    async def scene() -> None:
        leaving = Leaving([])
        await endpoint(scope, leaving.receive, leaving.send)
        assert (leaving.sent, committer.payloads, committer.refused_causes) == ([], [], [])
        assert await asyncio.to_thread(stopped.wait, 10)
        monkeypatch.undo()
        others = [Sender([bytes(LIMIT)]), Sender([bytes(LIMIT)])]
        for other in others:
            await endpoint(scope_of(), other.receive, other.send)
        assert [other.status for other in others] == [200, 200]

    asyncio.run(scene())

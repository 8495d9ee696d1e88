"""Each stage of a notification, with a clock that stands still."""

import logging
import random
import threading
from dataclasses import replace
from queue import Queue

import pytest
from moments import PassingClock

from heatshield.clock import ManualClock
from heatshield_alerts import Alert, AlertState, Labels
from heatshield_alerts.notify import (
    AppriseSender,
    DedupReason,
    DeliveryError,
    Message,
    Notice,
    Notifier,
    NotifyConfigError,
    RetryPolicy,
    Status,
    judge,
    render,
)
from heatshield_alerts.notify import dedup as dedup_module
from heatshield_alerts.notify.dedup import DedupStage, RecordStage, Sent, SentLog
from heatshield_alerts.notify.retry import RetryStage
from heatshield_alerts.outcome import OutcomeKind

LABELS = {"alertname": "HarmfulUser", "user": "u-1", "service": "shop", "call": "POST /p"}


def alert(state: AlertState = AlertState.FIRING, **labels: str) -> Alert:
    return Alert(
        "HarmfulUser", Labels({**LABELS, **labels}), state, 2.345,
        {"summary": "u-1 burns shop", "description": "Others wait."},
    )  # fmt: skip


def notice(state: AlertState = AlertState.FIRING, **labels: str) -> Notice:
    made = Notice.of(alert(state, **labels), ("aa", "bb", "cc", "dd"))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("last", "status", "reason", "sends"),
    [
        (None, Status.FIRING, DedupReason.FIRST, True),
        (None, Status.RESOLVED, DedupReason.NEVER_TOLD, False),
        (Sent(Status.FIRING, 0.0), Status.FIRING, DedupReason.UNCHANGED, False),
        (Sent(Status.FIRING, -60.0), Status.FIRING, DedupReason.REPEAT, True),
        (Sent(Status.FIRING, 0.0), Status.RESOLVED, DedupReason.RESOLVED, True),
        (Sent(Status.RESOLVED, 0.0), Status.RESOLVED, DedupReason.UNCHANGED, False),
        (Sent(Status.RESOLVED, 0.0), Status.FIRING, DedupReason.FIRES_AGAIN, True),
    ],
)
def test_dedup_decides_and_says_why(last, status, reason, sends):
    assert judge(last, status, now=0.0, repeat_s=60.0) is reason
    assert reason.sends is sends


def test_only_what_was_recorded_counts_as_told():
    clock, sent_log = ManualClock(), SentLog()
    dedup, record = DedupStage(sent_log, clock, 60.0), RecordStage(sent_log, clock)
    assert dedup.run(notice()) is not None
    assert dedup.run(notice()) is not None, "it was not delivered yet"
    record.run(notice())
    assert dedup.run(notice()) is None
    assert dedup.run(notice(user="u-2")) is not None
    clock.advance(60.0)
    assert dedup.run(notice()) is not None


def test_the_log_of_what_was_told_is_bounded(monkeypatch):
    monkeypatch.setattr(dedup_module, "MAX_SENT", 2)
    sent_log = SentLog()
    for user in "abc":
        sent_log.note(Labels({"user": user}), Sent(Status.FIRING, 0.0))
    assert [labels["user"] for labels in sent_log.by_labels] == ["b", "c"]


@pytest.mark.parametrize("state", [AlertState.INACTIVE, AlertState.PENDING])
def test_nobody_is_told_of_what_does_not_fire(state):
    assert Notice.of(alert(state)) is None


def test_a_message_has_user_call_load_requests_and_links():
    message = render(notice(), "http://collector:4318/")
    assert message.title == "[FIRING] HarmfulUser: u-1 shop POST /p"
    assert message.body.splitlines() == [
        "u-1 burns shop",
        "Others wait.",
        "call: POST /p",
        "service: shop",
        "user: u-1",
        "load: 2.345",
        "request: aa http://collector:4318/api/requests/aa",
        "request: bb http://collector:4318/api/requests/bb",
        "request: cc http://collector:4318/api/requests/cc",
        "alerts: http://collector:4318/api/alerts",
    ]
    assert "request: aa" in render(notice()).body.splitlines()
    assert render(notice(AlertState.RESOLVED)).title.startswith("[RESOLVED]")


def test_a_message_says_why_and_who_suffers_in_full():
    why = f"u-1 keeps Redis `cart` 83-91 % busy with `shop POST /p`; {'since 14:02:11 ' * 14}x"
    told = replace(alert(), annotations={"why": why, "harm": "128 of 312 requests are slower"})
    lines = render(Notice.of(told)).body.splitlines()
    assert lines[:2] == [f"why: {why}", "harm: 128 of 312 requests are slower"]
    forged = replace(alert(), annotations={"why": "x\nuser: admin http://evil" + "y" * 9_000})
    (line,) = [one for one in render(Notice.of(forged)).body.splitlines() if "admin" in one]
    assert line.startswith("why: x user: admin http[:]//evil")
    assert len(line) < 620


def test_a_user_id_can_not_forge_a_line_nor_flood_the_message():
    body = render(notice(user="x\nservice: bank\r\u2028" + "y" * 1_000)).body
    assert [line for line in body.splitlines() if line.startswith("service:")] == ["service: shop"]
    assert max(map(len, body.splitlines())) < 220


def test_a_target_that_was_told_of_no_breaker_hears_of_one_and_not_of_the_way_back():
    idle = [OutcomeKind.WAITING, OutcomeKind.NOT_CUT, OutcomeKind.SHADOW]
    acting = [OutcomeKind.CUT, OutcomeKind.PACED, OutcomeKind.FLAGGED]
    for before in (*idle, *acting, None):
        for now in (*idle, *acting, None):
            last = Sent(Status.FIRING, 0.0, before)
            reason = judge(last, Status.FIRING, 0.0, 60.0, now)
            told = before in idle and now in acting
            assert (reason is DedupReason.ACTED_ON) is told
            assert reason.sends is told


class Flaky:
    """A sender that fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[tuple[Message, Status]] = []
        self.arrived: Queue[str] = Queue()

    def send(self, message: Message, status: Status) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise DeliveryError("down")
        self.taken.append((message, status))
        self.arrived.put(message.title)


def retry(sender: Flaky, clock: PassingClock, policy: RetryPolicy) -> RetryStage:
    return RetryStage(sender, clock, threading.Event(), policy, random.Random(1).random)


def rendered() -> Notice:
    made = notice()
    return Notice(made.alert, made.status, made.trace_ids, render(made))


def test_delivery_is_tried_again_with_growing_jittered_waits():
    sender, clock = Flaky(4), PassingClock()
    policy = RetryPolicy(first_s=1.0, longest_s=3.0, give_up_s=1_000.0)
    retry(sender, clock, policy).run(rendered())
    waits = clock.waits
    assert len(sender.taken) == 1
    assert len(waits) == 4
    assert all(0 <= wait <= bound for wait, bound in zip(waits, [1.0, 2.0, 3.0, 3.0], strict=True))
    assert len(set(waits)) == 4


def test_delivery_is_given_up_in_time():
    sender, clock = Flaky(10**6), PassingClock()
    with pytest.raises(DeliveryError):
        retry(sender, clock, RetryPolicy(give_up_s=120.0)).run(rendered())
    assert 60.0 < clock.monotonic() <= 120.0


def test_an_end_to_everything_ends_the_waiting():
    sender, ending = Flaky(10**6), threading.Event()
    ending.set()
    with pytest.raises(DeliveryError):
        RetryStage(sender, ManualClock(), ending).run(rendered())
    assert sender.failures == 10**6 - 1


@pytest.mark.parametrize("url", ["nosuchthing://s3cret@host", "tgram://s3cret/", "s3cret", ""])
def test_apprise_urls_are_checked_and_their_secrets_kept(url, caplog):
    """Apprise itself would log the telegram URL with its token."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotifyConfigError) as raised:
        AppriseSender(url)
    assert "s3cret" not in str(raised.value)
    assert "s3cret" not in caplog.text


def test_a_target_that_is_not_there_is_an_error_without_its_secrets(caplog):
    caplog.set_level(logging.DEBUG, logger="heatshield_alerts")
    sender = AppriseSender("json://user:s3cret@127.0.0.1:1/s3cret")
    with pytest.raises(DeliveryError, match=r"a json:// target did not take the message") as raised:
        sender.send(Message("t", "b"), Status.FIRING)
    assert "s3cret" not in str(raised.value)
    assert "s3cret" not in caplog.text


def test_one_bad_url_starts_nothing():
    notifier = Notifier(["json://127.0.0.1:1/", "nosuchthing://x"])
    with pytest.raises(NotifyConfigError):
        notifier.start()
    assert not any(row.name == "heatshield-notify" for row in threading.enumerate())


class Gate:
    """A sender that holds every message until it is let go."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()

    def send(self, _message: Message, _status: Status) -> None:
        self.entered.set()
        assert self.gate.wait(10)


def test_a_target_that_hangs_costs_dropped_notices_and_no_other_target(monkeypatch):
    monkeypatch.setattr("heatshield_alerts.notify.pipeline.QUEUE_NOTICES", 2)
    gate, flaky = Gate(), Flaky(0)
    senders = {"slow": gate, "quick": flaky}
    notifier = Notifier(["slow", "quick"], clock=ManualClock(), make_sender=senders.__getitem__)
    notifier.start()
    try:
        notifier.submit(alert())
        assert gate.entered.wait(10)
        flaky.arrived.get(timeout=10)
        for n in range(5):
            notifier.submit(alert(user=f"u-{n}x"))
            assert f"u-{n}x" in flaky.arrived.get(timeout=10)
        assert notifier.counts.dropped == 3
    finally:
        gate.gate.set()
        notifier.stop(10)
    assert notifier.counts.sent == 6 + 3


class Broken:
    def send(self, _message: Message, _status: Status) -> None:
        raise RuntimeError("a bug of someone else")


def test_a_sender_that_breaks_is_counted_and_the_thread_lives_on():
    notifier = Notifier(["x"], clock=ManualClock(), make_sender=lambda _: Broken())
    notifier.start()
    notifier.submit(alert())
    notifier.submit(alert(user="u-2"))
    notifier.stop(10)
    assert notifier.counts.failed == 2


def test_before_start_and_after_stop_submitting_is_harmless():
    notifier = Notifier(["x"], make_sender=lambda _: Flaky(0))
    notifier.submit(alert())
    notifier.start()
    notifier.stop(10)
    notifier.submit(alert())
    assert notifier.counts.sent == 0

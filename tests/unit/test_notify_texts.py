"""What user ids may do to a message, and where the secrets of targets come from."""

import http.server
import threading

import pytest

from heatshield_alerts import Alert, AlertState, Labels
from heatshield_alerts.notify import (
    AppriseSender,
    DeliveryError,
    Message,
    Notice,
    NotifyConfigError,
    Status,
    read_targets,
    render,
)
from heatshield_alerts.notify.plain_text import quoted, unmarked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<!channel>", "‹!channel›"),  # noqa: RUF001
        ("<@U123|ann>", "‹＠U123|ann›"),  # noqa: RUF001 - as it is shown
        ("@here look", "＠here look"),  # noqa: RUF001
        ("x@everyone", "x＠everyone"),  # noqa: RUF001
        ("zoe@example.com", "zoe@example.com"),
        ("[pay](https://evil.example)", "[pay] (https[:]//evil.example)"),
        ("<https://evil.example|docs>", "‹https[:]//evil.example|docs›"),  # noqa: RUF001
        ("abc\u202ecba\u2066", "abc\ufffdcba\ufffd"),
        ("a\u200bb\ud800", "a\ufffdb\ufffd"),
        ("one\r\n\u2028two\x1b[2J", "one two [2J"),
        ("李 Юрий é", "李 Юрий é"),
    ],
)
def test_a_text_from_outside_notifies_links_and_turns_around_nothing(text, shown):
    assert quoted(text) == shown
    assert quoted(shown) == shown


def test_a_rule_may_link_and_the_user_id_that_it_quotes_may_not():
    user = "https://evil.example <!channel> \u202e"
    alert = Alert(
        "Mine",
        Labels({"alertname": "Mine", "user": user}),
        AlertState.FIRING,
        1.0,
        {"summary": f"{user}: see https://wiki.example/run", "description": "@ann <!here>"},
    )
    notice = Notice.of(alert)
    message = render(notice)
    whole = f"{message.title}\n{message.body}"
    assert "https://wiki.example/run" in whole
    for bad in ("https://evil", "<!", "\u202e", "@ann"):
        assert bad not in whole
    assert unmarked("https://wiki.example") == "https://wiki.example"


def test_targets_are_read_from_a_file_and_from_the_environment(tmp_path):
    secrets = tmp_path / "targets"
    secrets.write_text("# the team\nslack://token/a\n\n  mailto://u:p@example.com\n")
    named = (f"file:{secrets}", "env:PAGER", "json://here/")
    assert read_targets(named, {"PAGER": "pagerduty://x"}) == (
        "slack://token/a",
        "mailto://u:p@example.com",
        "pagerduty://x",
        "json://here/",
    )


@pytest.mark.parametrize(
    ("named", "message"),
    [("file:{}/none", "can't be read: No such file"), ("file:{}/empty", "no notify URL in"),
     ("file:{}/bytes", "not UTF-8"), ("env:PAGER", "the environment has no PAGER")],
)  # fmt: skip
def test_targets_that_are_not_there_say_where_they_should_be(tmp_path, named, message):
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(NotifyConfigError, match=message):
        read_targets((named.format(tmp_path),), {})


def test_a_redirect_is_not_followed():
    asked = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(307)
            self.send_header("location", f"http://{self.headers['host']}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Keep the test's output to the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        sender = AppriseSender(f"json://127.0.0.1:{server.server_address[1]}/here")
        with pytest.raises(DeliveryError):
            sender.send(Message("t", "b"), Status.FIRING)
        server.shutdown()
    assert asked == ["/here"]

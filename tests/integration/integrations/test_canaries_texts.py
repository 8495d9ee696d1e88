"""No secret of the corpus leaves, whatever field of a span or a log record it stands in."""

import logging
import sqlite3
import time

import pytest
from canaries import CARD, TEXTS, canaries_in, sent
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, StatusCode

from heatshield.sanitize.redaction import Redaction
from heatshield.sanitize.sanitizer import Sanitizer

TRACER = trace.get_tracer("shop")


@pytest.fixture
def made(service):
    return service()


@pytest.fixture
def logger():
    found = logging.getLogger("shop.canaries")
    found.setLevel(logging.INFO)
    handler = logging.NullHandler()
    found.addHandler(handler)
    yield found
    found.removeHandler(handler)


def failing(text):
    raise ValueError(text)


@pytest.mark.parametrize("text", TEXTS)
def test_in_spans(made, text):
    link = Link(SpanContext(1, 2, is_remote=True), {"why": text})
    with TRACER.start_as_current_span(f"sell {text}", links=[link]) as span:
        span.set_attributes(
            {"text": text, "list": [text, text], "raw": text.encode(), text: "name"}
        )
        span.add_event(f"sold {text}", {"text": text, "list": [text]})
        span.set_status(StatusCode.ERROR, text)
    with pytest.raises(ValueError), TRACER.start_as_current_span("fails"):  # noqa: PT011
        failing(text)
    assert len(made.spans) == 2
    assert canaries_in(sent(made)) == []


@pytest.mark.parametrize("text", TEXTS)
def test_in_names_of_server_spans_and_the_calls_that_they_are(made, text):
    kind = trace.SpanKind.SERVER
    with TRACER.start_as_current_span(f"GET {text}", kind=kind) as span:
        span.update_name(f"POST {text}")
    assert canaries_in(sent(made)) == []
    assert made.spans[0].call


@pytest.mark.parametrize("text", TEXTS)
def test_in_records_of_logging(made, logger, text):
    logger.warning(text)
    logger.warning("said %s and %r", text, {"within": text})
    fields = {"text": text, "deep": {"list": [(text, [text])], text: 1}, "raw": text.encode()}
    logger.warning("fields", extra=fields)
    try:
        failing(text)
    except ValueError as error:
        logger.exception("failed")
        logger.error("failed: %s", error)  # noqa: TRY400  # its text is what is looked at
        logger.error("failed: %r", error, stack_info=True)  # noqa: TRY400  # same
    assert len(made.logs) == 6
    assert canaries_in(sent(made)) == []


@pytest.mark.parametrize("text", TEXTS)
def test_in_records_of_structlog(made, text):
    import structlog

    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    try:
        log = structlog.get_logger().bind(bound=text)
        log.warning("said", text=text, deep={"list": [text]})
        log.warning(text)
        try:
            failing(text)
        except ValueError:
            log.exception("failed")
    finally:
        structlog.reset_defaults()
    assert len(made.logs) == 3
    assert canaries_in(sent(made)) == []


@pytest.mark.parametrize("text", TEXTS)
def test_in_records_of_loguru(made, text):
    import loguru

    sink = loguru.logger.add(lambda _: None)
    try:
        log = loguru.logger.bind(bound=text)
        log.opt(raw=False).warning(text.replace("{", "{{").replace("}", "}}"))
        try:
            failing(text)
        except ValueError:
            log.exception("failed")
    finally:
        loguru.logger.remove(sink)
    assert len(made.logs) == 2
    assert canaries_in(sent(made)) == []


def test_a_cards_number_that_is_a_number(made, logger):
    logger.warning("paid", extra={"card": int(CARD), "deep": {"numbers": [int(CARD)]}})
    with TRACER.start_as_current_span("pay", attributes={"n": int(CARD)}):
        pass
    assert canaries_in(sent(made)) == []


def test_a_users_id_that_looks_like_a_card_stays_the_breakers_know_it(made):
    import heatshield

    with TRACER.start_as_current_span("pay"):
        heatshield.user(CARD)
    assert CARD.encode() in sent(made)


def test_with_redaction_off_all_is_sent(service, logger):
    made = service(redaction=False)
    logger.warning(TEXTS[0])
    assert len(canaries_in(sent(made))) == 1


HARMLESS = [
    "GET /v1/token:refresh 200", "order 1234567890123456 took 1717171717171 ns",
    "the key to success: patience", "passed 3 of 4", "primary key (id)", "sort=price&page=2",
    "4111111111111112", "trace 4111111111111111aa", "risk-free and task-based", "max_tokens=5",
    "a token of our thanks", 'ValueError: no sticker "cat" for 17', "step: pack, box: 3",
    "sk-learn-pipeline-step", "npm_config_registry_url", "KeyError: 'password'", "tokens: 512",
    "unexpected token: <EOF>", "author: ann", "cache key: user:17", "password reset for u-17",
    'INFO: 127.0.0.1:5000 - "POST /auth/token HTTP/1.1" 200', "total_tokens=5 state=ok",
]  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays_as_it_is(text):
    assert Sanitizer().text(text) == text


def test_code_that_a_stack_quotes_stays_readable():
    stack = '  File "shop.py", line 3, in buy\n    session = Session(engine)\nValueError: no\n'
    assert Sanitizer().text(stack) == stack


def test_columns_of_statements_stay_and_their_values_go():
    statement = "SELECT * FROM s JOIN t ON s.session_id = t.session_id WHERE token = ?"
    assert Sanitizer().shown("db.query.text", statement) == statement
    assert "x7" not in Sanitizer().shown("db.query.text", '{"password": "x7"}')


PIECES = [
    "password", "password=", 'password="', "password: ", "token=(", "token=[", "token={'", "a-",
    "a.", "--a ", "--token ", "<password>", "secret=\\", 'secret="\\', "'key', ", "eyJ", "-eyJ",
    "eyJa.", "-SG.", "sk-", "xox", "ghp_", "AKIA", "-----BEGIN PRIVATE KEY-----", "4111", "4111 ",
    "4-", "3782 ", "[SQL: ", "[parameters: ", "Command # 1 (", "DETAIL: ", "dup key: ", 'near "',
    "near 'x", "sqlite3.Error: ", "psycopg.errors.X: 'a\n", "asyncpg.", "redis.a: \n",
    "unknown command '", "[SQL: [parameters: ", "\\n", "\n", " ", "|", "%5B", "=", ":", "error",
    "=>", "token=a(", "token=,", "token=)", "bearer ", "_", "password=bearer ",
]  # fmt: skip
"""What a pattern may begin with and then not end."""


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("tail", ["", "x" * 40_000, "'\"])}" * 8_000])
def test_the_time_is_linear_in_the_text(piece, tail):
    """A hundred thousand characters; a pattern that goes back and forth would take minutes."""
    redaction = Redaction()
    text = piece * (60_000 // len(piece)) + tail
    began = time.thread_time()
    Sanitizer().text(text)
    redaction.value("x", text)
    assert time.thread_time() - began < 2.0


def test_the_stack_of_a_chain_with_groups(made, logger):
    """The rest of a stack is as it was: frames, other errors, what follows."""
    inner = sqlite3.IntegrityError("odd 'CANARY' value")
    outer = KeyError("kept")
    outer.__cause__ = ExceptionGroup("many", [inner, ValueError('plain "17" stays')])
    logger.error("failed", exc_info=outer)
    payload = sent(made)
    assert canaries_in(payload) == []
    assert b'ValueError: plain "17" stays' in payload
    assert b"KeyError: 'kept'" in payload
    assert b"sqlite3.IntegrityError: odd ? value" in payload

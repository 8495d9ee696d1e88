"""Records are rendered by the service alone; what a handler says of one is its own record."""

import io
import logging
import sys

import pytest
import structlog
from loguru import logger as loguru_logger

# Without parents, so that nothing else renders their records.
LOG, OWN, AUDIT = (
    logging.Logger(name, logging.DEBUG)  # noqa: LOG001
    for name in ("shop.rendering", "shipping", "audit")
)


class Query:
    """What a set of Django's does: runs, and logs, each time it is looked at."""

    def __init__(self, log=LOG):
        self.log, self.runs = log, 0

    def __str__(self):
        self.runs += 1
        self.log.info("SELECT %s", "hats")
        return "<hats, caps>"


class Keeping(logging.Handler):
    """Renders records as ``format`` says; keeps them."""

    def __init__(self, fmt="%(message)s"):
        super().__init__()
        self.setFormatter(logging.Formatter(fmt))
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _only_its_own():
    yield
    for log in (LOG, OWN, AUDIT):
        log.handlers.clear()


@pytest.fixture
def lines():
    """loguru's lines."""
    written = io.StringIO()
    loguru_logger.remove()
    loguru_logger.add(written, format="{level} | {name} - {message}", level=0)
    yield written
    loguru_logger.remove()


def bodies(made):
    return sorted(event.body for event in made.logs)


def test_an_argument_that_logs_is_rendered_once(service):
    made, query, handler = service(), Query(), Keeping()
    LOG.addHandler(handler)
    LOG.info("found %s", query)
    assert query.runs == 1
    assert handler.lines == ["SELECT hats", "found <hats, caps>"]
    assert bodies(made) == ["SELECT hats", "found <hats, caps>"]


def test_a_message_that_logs_is_rendered_once(service):
    made, query = service(), Query()
    LOG.addHandler(Keeping())
    LOG.info(query)
    assert query.runs == 1
    assert bodies(made) == ["<hats, caps>", "SELECT hats"]


def test_one_that_logs_what_it_says_is_rendered_once(service):
    """Each look at it would have been the cause of another."""

    class Loud:
        runs = 0

        def __str__(self):
            Loud.runs += 1
            if Loud.runs < 5:
                LOG.info("loud " + str(Loud.runs) + " %s", self)  # noqa: G003  # another text each
            return "itself"

    made = service()
    LOG.addHandler(Keeping())
    LOG.info("loud 0 %s", Loud())
    assert Loud.runs == 5
    assert bodies(made) == [f"loud {number} itself" for number in range(5)]


def test_a_handler_that_renders_by_itself_renders_for_the_export_too(service):
    class Plain(logging.Handler):
        def emit(self, record):
            record.getMessage()

    made, query = service(), Query()
    LOG.addHandler(Plain())
    LOG.info("found %s", query)
    assert query.runs == 1
    assert bodies(made) == ["SELECT hats", "found <hats, caps>"]


def test_one_that_is_handed_on_to_another_library_is_rendered_once(service, lines):
    class Handing(logging.Handler):
        def emit(self, record):
            loguru_logger.log(record.levelname, record.getMessage())

    made, query = service(), Query()
    LOG.addHandler(Handing())
    LOG.info("found %s", query)
    assert query.runs == 1
    assert "found <hats, caps>" in lines.getvalue()
    assert [(event.body, event.logger) for event in made.logs] == [
        ("SELECT hats", LOG.name),
        ("found <hats, caps>", LOG.name),
    ]


def test_one_that_is_logged_once_more_as_it_came_is_one_record(service):
    class Again(logging.Handler):
        def emit(self, record):
            AUDIT.log(record.levelno, record.msg, *record.args)

    made, query, handler = service(), Query(), Keeping()
    AUDIT.addHandler(handler)
    LOG.addHandler(Again())
    LOG.warning("found %s", query)
    assert handler.lines == ["SELECT hats", "found <hats, caps>"]
    assert query.runs == 1
    assert [event.logger for event in made.logs] == [LOG.name] * 2


def test_a_field_that_logs_when_it_is_sent_is_not_heard(service):
    """The service has not asked for its text, so what it says stands nowhere."""

    class Loud:
        def __str__(self):
            LOG.info("asked", extra={"of": self})
            structlog.get_logger().info("asked", of=self)
            loguru_logger.bind(of=self).info("asked")
            return "loud"

    made, handler = service(), Keeping()
    LOG.addHandler(handler)
    LOG.info("bought", extra={"of": Loud()})
    assert handler.lines == bodies(made) == ["bought"]
    assert made.logs[0].attributes["of"] == "loud"


def test_the_report_of_arguments_that_do_not_fit_is_as_it_was(service, monkeypatch):
    def reported():
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        handler = logging.StreamHandler(io.StringIO())
        LOG.addHandler(handler)
        LOG.info("bought %d", "seven")
        LOG.removeHandler(handler)
        return written.getvalue()

    reports = []
    for begin in (lambda: None, service):
        made = begin()
        reports.append(reported())
    assert reports[0] == reports[1]
    assert "msg = msg % self.args" in reports[0]
    assert bodies(made) == ["bought %d"]


# -- what a handler says of its own ----------------------------------------------------------------


class Complaining(logging.Handler):
    """Cannot ship what it is given, and says so."""

    def __init__(self, say):
        super().__init__()
        self.say = say

    def emit(self, record):
        self.say(record)


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (lambda r: OWN.warning("not sent: %s", r.getMessage()), "not sent: bought seven"),
        (lambda r: OWN.info("not sent: %s", r.getMessage()), "not sent: bought seven"),
        (lambda r: OWN.info("lost: %s", r.getMessage()), "lost: bought seven"),
        (lambda r: OWN.info("%s could not be shipped", r.msg), "bought seven could not be shipped"),
        (lambda r: OWN.error("queue full", extra={"of": r.msg}), "queue full"),
        (lambda r: loguru_logger.error(f"lost {r.msg!r}"), "lost 'bought seven'"),
        (lambda r: loguru_logger.info(f"lost {r.msg!r}"), "lost 'bought seven'"),
        (
            lambda r: structlog.get_logger().error(f"can not ship {r.msg}"),
            "can not ship bought seven",
        ),
    ],
)  # fmt: skip
def test_what_a_handler_says_of_a_record_that_it_quotes_is_sent(service, lines, say, expected):
    made, kept = service(), Keeping()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(io.StringIO()),
    )
    OWN.addHandler(kept)
    LOG.addHandler(Complaining(say))
    LOG.addHandler(Keeping())
    try:
        LOG.info("bought seven")
    finally:
        structlog.reset_defaults()
    assert bodies(made) == sorted(["bought seven", expected])

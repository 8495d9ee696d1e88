"""What of structlog's events and loguru's records is exported."""

import asyncio
import io
import logging
import sys

import loguru
import pytest
import structlog

import heatshield
from heatshield.integrations.logs import loguru as tap


@pytest.fixture(autouse=True)
def _defaults():
    yield
    structlog.reset_defaults()


@pytest.fixture
def output():
    written = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(sort_keys=True)],
        logger_factory=structlog.PrintLoggerFactory(written),
    )
    return written


@pytest.fixture
def lines():
    """loguru's logger with one sink."""
    written = io.StringIO()
    loguru.logger.remove()
    loguru.logger.add(written, format="{message} {extra}", level=0)
    yield written
    loguru.logger.remove()
    loguru.logger._core.patcher = None


def fail(what):
    raise ValueError(what)


# -- structlog -------------------------------------------------------------------------------------


def test_an_event_says_what_was_said_where_and_by_whom(service, output):
    made = service()
    heatshield.user("u-1")
    with heatshield.guard("work"):
        structlog.get_logger(bound=1).warning("bought", method="GET", items=["hat"], nothing=None)
    (event,) = made.logs
    code = test_an_event_says_what_was_said_where_and_by_whom.__code__
    assert (event.body, event.logger, event.user) == ("bought", __name__, "u-1")
    assert event.severity_text == "WARN"
    assert event.trace_id == made.span("work").trace_id
    assert event.attributes == {
        "bound": 1,
        "method": "GET",
        "items": ("hat",),
        "code.file.path": code.co_filename,
        "code.line.number": code.co_firstlineno + 4,
        "code.function.name": code.co_name,
        "thread.name": "MainThread",
    }


def test_the_place_of_an_awaited_event_is_its_caller(service, output):
    async def shop():
        await structlog.get_logger().ainfo("bought")

    made = service()
    asyncio.run(shop())
    assert made.logs[0].attributes["code.function.name"] == "shop"


@pytest.mark.parametrize(
    ("method", "expected"),
    [("debug", "DEBUG"), ("info", "INFO"), ("warn", "WARN"), ("error", "ERROR"),
     ("exception", "ERROR"), ("critical", "FATAL"), ("fatal", "FATAL"), ("msg", "INFO")],
)  # fmt: skip
def test_methods_become_severities(service, output, method, expected):
    made = service(log_level="trace")
    getattr(structlog.get_logger(), method)("said")
    assert [event.severity_text for event in made.logs] == [expected]


def test_what_a_processor_drops_or_hides_is_not_exported(service, output):
    def hide(logger, method, event):
        if event["event"] == "dropped":
            raise structlog.DropEvent
        return {**event, "password": "***"}

    made = service()
    structlog.configure(processors=[hide, structlog.processors.JSONRenderer()])
    log = structlog.get_logger()
    log.error("dropped")
    log.error("said", password="geheim")  # noqa: S106  # to be hidden
    assert [(event.body, event.attributes["password"]) for event in made.logs] == [("said", "***")]


def test_captured_events_of_tests_are_not_exported(service, output):
    made = service()
    with structlog.testing.capture_logs() as captured:
        structlog.get_logger().error("said")
    assert [entry["event"] for entry in captured] == ["said"]
    assert made.logs == []


def test_a_processor_that_raises_raises_as_before(service, output):
    def fail(logger, method, event):
        raise ValueError("no " + event["event"])

    made = service()
    structlog.configure(processors=[fail, structlog.processors.JSONRenderer()])
    with pytest.raises(ValueError, match="no hat"):
        structlog.get_logger().error("hat")
    assert made.logs == []


def test_what_a_processor_logs_is_an_event_of_its_own(service, output):
    def complain(logger, method, event):
        if event["event"] == "said":
            structlog.get_logger().warning("complaint")
            logging.getLogger("shop").warning("said too")
        return event

    made = service()
    structlog.configure(processors=[complain, structlog.processors.JSONRenderer()])
    structlog.get_logger().error("said")
    assert sorted(event.body for event in made.logs) == ["complaint", "said", "said too"]


EXCEPTIONS = {
    "not rendered": [],
    "format_exc_info": [structlog.processors.format_exc_info],
    "dict_tracebacks": [structlog.processors.dict_tracebacks],
}


@pytest.mark.parametrize("name", EXCEPTIONS)
@pytest.mark.parametrize("given", [True, "error"])
def test_exceptions_are_exported_however_they_are_rendered(service, output, name, given):
    made = service()
    structlog.configure(processors=[*EXCEPTIONS[name], structlog.processors.KeyValueRenderer()])
    try:
        fail("no hat")
    except ValueError as error:
        structlog.get_logger().error("broke", exc_info=error if given == "error" else given)
    found = made.logs[0].attributes
    assert (found["exception.type"], found["exception.message"]) == ("ValueError", "no hat")
    assert "Traceback (most recent call last)" in found["exception.stacktrace"]
    assert "exc_info" not in found
    assert "exception" not in found


def test_what_a_processor_hides_of_an_exception_stays_hidden(service, output):
    def hide(logger, method, event):
        return {**event, "exception": event["exception"].replace("4711", "****")}

    made = service()
    processors = [structlog.processors.format_exc_info, hide, structlog.processors.JSONRenderer()]
    structlog.configure(processors=processors)
    try:
        fail("card 4711")
    except ValueError:
        structlog.get_logger().exception("broke")
    assert "ValueError: card ****" in made.logs[0].attributes["exception.stacktrace"]
    assert made.logs[0].attributes["exception.message"] == "card ****"


def test_positional_arguments_are_formatted(service):
    made = service()
    log = logging.getLogger("shop.tests")
    log.setLevel(logging.INFO)
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    structlog.get_logger("shop.tests").info("bought %d hats", 3, n=1)
    (event,) = made.logs
    assert (event.body, event.logger, event.attributes["n"]) == ("bought 3 hats", "shop.tests", 1)


def test_ids_are_fields_where_asked_for_and_do_not_replace_the_services_own(service, output):
    made = service(console_ids=True)
    heatshield.user("u-1")
    with heatshield.guard("work"):
        structlog.get_logger().info("said")
        structlog.get_logger().info("said", user="theirs")
    first, second = output.getvalue().splitlines()
    assert f'"trace_id": "{made.span("work").trace_id:032x}", "user": "u-1"' in first
    assert '"user": "theirs"' in second
    assert "trace_id" not in made.logs[0].attributes
    assert made.logs[1].attributes["user"] == "theirs"


# -- loguru ----------------------------------------------------------------------------------------


def test_a_line_says_what_was_said_where_and_by_whom(service, lines):
    made = service()
    heatshield.user("u-1")
    with heatshield.guard("work"), loguru.logger.contextualize(order="o-1"):
        loguru.logger.bind(items=["hat"]).warning("bought {}", 3, price=4)
    (event,) = made.logs
    code = test_a_line_says_what_was_said_where_and_by_whom.__code__
    assert (event.body, event.logger, event.user) == ("bought 3", __name__, "u-1")
    assert event.severity_text == "WARN"
    assert event.trace_id == made.span("work").trace_id
    assert event.attributes == {
        "order": "o-1",
        "items": ("hat",),
        "price": 4,
        "code.file.path": code.co_filename,
        "code.line.number": code.co_firstlineno + 4,
        "code.function.name": code.co_name,
        "thread.name": "MainThread",
    }


def test_levels_of_loguru_become_severities(service, lines):
    made = service(log_level="trace")
    for level in ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL", 45):
        loguru.logger.log(level, "said")
    expected = ["TRACE", "DEBUG", "INFO", "INFO", "WARN", "ERROR", "FATAL", "ERROR"]
    assert [event.severity_text for event in made.logs] == expected


def test_an_unknown_level_is_the_services_error_as_before(service, lines):
    made = service()
    with pytest.raises(ValueError, match="does not exist"):
        loguru.logger.log("LOUD", "said")
    assert made.logs == []


def test_what_no_sink_takes_is_not_exported(service, lines):
    made = service()
    loguru.logger.remove()
    loguru.logger.error("without sinks")
    loguru.logger.add(io.StringIO(), level="WARNING", filter=lambda r: "secret" not in r["message"])
    loguru.logger.info("below")
    loguru.logger.error("a secret")
    loguru.logger.disable(__name__)
    loguru.logger.error("disabled")
    loguru.logger.enable(__name__)
    loguru.logger.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_several_sinks_are_one_record(service, lines):
    made = service()
    for _ in range(3):
        loguru.logger.add(io.StringIO())
    loguru.logger.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_what_a_patcher_hides_is_hidden(service, lines):
    def hide(record):
        record["message"] = record["message"].replace("4711", "****")
        record["extra"]["card"] = "****"

    made = service()
    loguru.logger.configure(patcher=hide)
    loguru.logger.bind(card=4711).error("card 4711")
    (event,) = made.logs
    assert (event.body, event.attributes["card"]) == ("card ****", "****")


def test_exceptions_of_loguru_have_a_stack_without_variables(service, lines):
    made = service()
    try:
        fail("a hat".upper())
    except ValueError:
        loguru.logger.exception("broke")
    found = made.logs[0].attributes
    assert (found["exception.type"], found["exception.message"]) == ("ValueError", "A HAT")
    assert "raise ValueError(what)" in found["exception.stacktrace"]
    assert "'A HAT'" in lines.getvalue()
    assert "'A HAT'" not in found["exception.stacktrace"]


def test_a_sink_that_logs_with_the_standard_library_says_something_of_its_own(service, lines):
    def sink(message):
        logging.getLogger("shop").warning("disk is full")

    made = service()
    loguru.logger.add(sink)
    loguru.logger.error("said")
    assert sorted(event.body for event in made.logs) == ["disk is full", "said"]


@pytest.mark.parametrize("colors", [False, True])
def test_ids_stand_behind_loguru_lines_where_asked_for(service, lines, colors):
    made = service(console_ids=True)
    heatshield.user("{u}<red>")
    loguru.logger.opt(colors=colors).info("bought {n}", n=3)
    loguru.logger.bind(user="theirs").info("bought")
    first, second = lines.getvalue().splitlines()
    assert first == "bought 3 user={u}<red> {'user': '{u}<red>', 'n': 3}"
    assert second == "bought user={u}<red> {'user': 'theirs'}"
    assert [event.body for event in made.logs] == ["bought 3", "bought"]
    assert [event.attributes.get("user") for event in made.logs] == [None, "theirs"]


def test_ids_stand_once_behind_a_line_that_is_handed_on(service, lines):
    class Intercept(logging.Handler):
        def emit(self, record):
            loguru.logger.log(record.levelname, record.getMessage())

    made = service(console_ids=True)
    heatshield.user("u-1")
    log = logging.getLogger("shop.intercepted")
    log.propagate = False
    log.addHandler(Intercept())
    log.warning("bought")
    assert lines.getvalue().count("user=u-1") == 1
    assert [(event.body, event.logger) for event in made.logs] == [("bought", "shop.intercepted")]


def test_a_version_of_loguru_that_is_not_known_is_left_alone(service, lines, monkeypatch):
    monkeypatch.setattr(tap, "_KNOWN_ARGUMENTS", ("self", "level"))
    made = service()
    loguru.logger.error("said")
    assert lines.getvalue() == "said {}\n"
    assert made.logs == []
    assert "not known" in heatshield.status()["integrations"]["loguru"]


def test_the_libraries_are_left_as_they_were(service, lines):
    handlers = sys.modules["loguru._handler"]
    classes = [structlog.BoundLoggerBase, type(loguru.logger), handlers.Handler]
    before = [dict(vars(cls)) for cls in classes]
    service()
    assert [dict(vars(cls)) for cls in classes] != before
    heatshield.shutdown()
    assert [dict(vars(cls)) for cls in classes] == before

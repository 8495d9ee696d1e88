"""What of a record of the standard library is exported, and which records are."""

import logging
import queue
import sys
import threading
from logging.handlers import QueueHandler

import pytest

import heatshield
from heatshield.counters import COUNTERS
from heatshield.settings import ServiceSettings, SettingsError, load


def test_a_record_says_what_was_said_where_and_by_whom(service, log):
    made = service()
    heatshield.user("u-1")
    with heatshield.guard("work"):
        log.warning("bought %s for %d", "hat", 3, extra={"n": 1, "nothing": None, "items": ["a"]})
    (event,) = made.logs
    assert (event.body, event.logger, event.user) == ("bought hat for 3", "shop.tests", "u-1")
    assert (event.severity, event.severity_text) == (13, "WARN")
    span = made.span("work").get_span_context()
    assert (event.span.trace_id, event.span.span_id) == (span.trace_id, span.span_id)
    frame = test_a_record_says_what_was_said_where_and_by_whom.__code__
    assert event.attributes == {
        "n": 1,
        "items": ("a",),
        "code.file.path": frame.co_filename,
        "code.line.number": frame.co_firstlineno + 4,
        "code.function.name": frame.co_name,
        "thread.name": "MainThread",
    }


def test_what_a_service_changes_later_does_not_change_what_was_said(service, log):
    made = service()
    items = ["hat"]
    log.warning("bought %s", items, extra={"items": items})
    items.append("scarf")
    (event,) = made.logs
    assert (event.body, event.attributes["items"]) == ("bought ['hat']", ("hat",))


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1, "TRACE"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARN"), (40, "ERROR"),
     (50, "FATAL"), (99, "FATAL")],
)  # fmt: skip
def test_levels_become_severities(service, log, level, expected):
    made = service(log_level="trace")
    log.setLevel(1)
    log.log(level, "said")
    assert [event.severity_text for event in made.logs] == [expected]


def test_records_below_the_level_are_not_exported(service, log):
    made = service(log_level="warning")
    for say in (log.debug, log.info, log.warning, log.error):
        say("said")
    assert [event.severity_text for event in made.logs] == ["WARN", "ERROR"]


def test_info_is_the_least_level_unless_another_is_set(service, log):
    made = service()
    log.debug("too low")
    log.info("said")
    assert [event.body for event in made.logs] == ["said"]


def test_an_unknown_level_is_a_settings_error():
    with pytest.raises(SettingsError, match="one of trace, debug, info"):
        load(ServiceSettings, flags={"log_level": "loud"})
    assert load(ServiceSettings, flags={"log_level": "Error"}).log_level == "error"


def test_what_speaks_of_exporting_is_not_exported(service, log):
    made = service()
    for name in ("heatshield", "heatshield.x", "opentelemetry.sdk", "heatshields", "urllib3.pool"):
        logging.getLogger(name).warning("said")
    assert [event.logger for event in made.logs] == ["heatshields", "urllib3.pool"]


def test_a_record_that_reaches_nobody_is_not_exported(service, log):
    made = service()
    log.propagate = False
    log.addHandler(logging.NullHandler())
    log.error("to nobody")
    above = logging.StreamHandler(sys.stderr)
    above.setLevel(logging.CRITICAL)
    log.addHandler(above)
    log.error("below its handler")
    dropping = logging.StreamHandler(sys.stderr)
    dropping.addFilter(lambda record: "secret" not in record.msg)
    log.addHandler(dropping)
    log.error("a secret")
    log.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_a_handler_of_a_class_that_answers_nothing_took_the_record(service, log):
    class Mine(logging.Handler):
        def handle(self, record):
            self.said = record.getMessage()

    made = service()
    log.propagate = False
    log.addHandler(Mine())
    log.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_a_filter_that_redacts_redacts_what_is_exported(service, log):
    def redact(record):
        record.msg, record.args = record.getMessage().replace("4711", "****"), ()
        record.card = "****"
        return True

    made = service()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(redact)
    log.propagate = False
    log.addHandler(handler)
    log.error("card %s", 4711, extra={"card": 4711})
    (event,) = made.logs
    assert (event.body, event.attributes["card"]) == ("card ****", "****")


def test_a_handler_that_raises_raises_as_before_and_what_reached_another_is_exported(service, log):
    class Raising(logging.Handler):
        def handle(self, record):
            raise OSError(record.getMessage())

    made = service()
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.addHandler(Raising())
    with pytest.raises(OSError, match="said"):
        log.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_arguments_that_do_not_fit_leave_the_text_as_it_was_written(service, log, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    made = service()
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.error("%d hats", "many")
    assert [event.body for event in made.logs] == ["%d hats"]


def test_colours_of_a_terminal_are_not_exported(service, log):
    class Colours(logging.Formatter):
        def format(self, record):
            record.message = f"\x1b[31m{record.getMessage()}\x1b[0m"
            return record.message

    made = service()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Colours())
    log.propagate = False
    log.addHandler(handler)
    log.error("red %s", "hat")
    assert [event.body for event in made.logs] == ["red hat"]


def test_a_mapping_for_a_message_is_its_fields(service, log):
    made = service()
    log.error({"message": "bought", "n": 3})
    (event,) = made.logs
    assert (event.body, event.attributes["n"]) == ("bought", 3)


def test_a_record_class_of_the_services_own_keeps_its_fields(service, log):
    class Mine(logging.LogRecord):
        def __init__(self, *arguments, **more):
            self.first = "before"
            super().__init__(*arguments, **more)

    made = service()
    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Mine)
    try:
        log.error("said", extra={"n": 1})
    finally:
        logging.setLogRecordFactory(usual)
    (event,) = made.logs
    assert (event.attributes["first"], event.attributes["n"]) == ("before", 1)
    assert "msecs" not in event.attributes


# -- once ------------------------------------------------------------------------------------------


def test_a_record_of_another_thread_was_exported_there(service, log):
    made = service()
    waiting = queue.SimpleQueue()
    log.propagate = False
    log.addHandler(QueueHandler(waiting))
    thread = threading.Thread(target=log.error, args=("said",))
    thread.start()
    thread.join()
    logging.getLogger("central").handle(waiting.get())
    assert [event.body for event in made.logs] == ["said"]


def test_a_record_of_another_process_was_exported_there(service, log):
    made = service()
    record = logging.makeLogRecord({"name": "shop", "levelno": 40, "msg": "said", "process": 1})
    log.handle(record)
    assert made.logs == []


def test_installed_again_it_exports_once(service, log):
    service()
    heatshield.shutdown()
    made = service()
    log.error("said")
    assert [event.body for event in made.logs] == ["said"]


def test_taken_out_it_leaves_the_original(service, log):
    original = logging.Logger.callHandlers
    service()
    assert logging.Logger.callHandlers is not original
    heatshield.shutdown()
    assert logging.Logger.callHandlers is original


def test_somebody_elses_patch_around_stays_and_records_are_exported_once(service, log):
    original = logging.Logger.callHandlers
    made = service()
    ours, seen = logging.Logger.callHandlers, []

    def theirs(logger, record):
        seen.append(record.msg)
        return ours(logger, record)

    logging.Logger.callHandlers = theirs
    try:
        log.error("first")
        heatshield.shutdown()
        log.error("second")
        assert [event.body for event in made.logs] == ["first"]
        made = service()
        log.error("third")
    finally:
        heatshield.shutdown()
        logging.Logger.callHandlers = ours
        service()
        heatshield.shutdown()
    assert seen == ["first", "second", "third"]
    assert [event.body for event in made.logs[-1:]] == ["third"]
    assert logging.Logger.callHandlers is original


def test_a_patch_of_somebody_elses_from_before_is_kept(service, log, monkeypatch):
    original, seen = logging.Logger.callHandlers, []

    def theirs(logger, record):
        seen.append(record.msg)
        return original(logger, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
    made = service()
    log.error("said")
    heatshield.shutdown()
    assert seen == ["said"]
    assert [event.body for event in made.logs] == ["said"]
    assert logging.Logger.callHandlers is theirs


def test_an_error_within_is_counted_and_the_console_is_not_the_worse(service, log, capsys):
    made = service()
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stdout))
    record = log.makeRecord("shop", 40, "/srv/shop.py", 7, "said", (), None)
    record.pathname = []  # can't be looked up in a table
    before = COUNTERS.errors.get("logging", 0)
    log.handle(record)
    assert capsys.readouterr().out == "said\n"
    assert made.logs == []
    assert COUNTERS.errors["logging"] == before + 1


# -- limits and ids --------------------------------------------------------------------------------


def test_a_loop_does_not_push_out_the_rest(service, log):
    made = service(log_rate=3)
    before = COUNTERS.dropped.get("log_rate_limit", 0)
    for n in range(10):
        log.error("again %d", n)
    log.error("the rest")
    assert [event.body for event in made.logs] == ["again 0", "again 1", "again 2", "the rest"]
    heatshield.shutdown()
    told = made.logs[-1]
    first = made.logs[0]
    assert told.body.startswith("suppressed 7 records of ")
    assert told.attributes["heatshield.log.suppressed"] == 7
    for name in ("code.file.path", "code.line.number", "code.function.name"):
        assert told.attributes[name] == first.attributes[name]
    assert (told.logger, told.severity) == (first.logger, first.severity)
    assert not told.span.is_valid
    assert COUNTERS.dropped["log_rate_limit"] == before + 7


def test_ids_leave_the_arguments_to_formatters_and_the_body_as_it_was(service, log):
    class Access(logging.Formatter):
        def formatMessage(self, record):  # noqa: N802
            method, path = record.args
            seen.append((method, path, record.getMessage(), record.user))
            return ""

    seen = []
    made = service(console_ids=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Access())
    log.propagate = False
    log.addHandler(handler)
    heatshield.user("100%")
    log.warning("%s %s", "GET", "/")
    assert seen == [("GET", "/", "GET / user=100%", "100%")]
    (event,) = made.logs
    assert event.body == "GET /"
    assert "user" not in event.attributes


def test_a_services_own_field_of_such_a_name_is_its_own(service, log):
    made = service(console_ids=True)
    heatshield.user("u-1")
    log.warning("said", extra={"user": "theirs"})
    (event,) = made.logs
    assert (event.attributes["user"], event.user) == ("theirs", "u-1")

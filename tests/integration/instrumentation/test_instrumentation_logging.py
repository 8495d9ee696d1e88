"""Logs: the console says what it said before, and each record is exported once."""

import re

import pytest

PROGRAM = """
import logging, sys
{before}
{instrument}
import heatshield
log = logging.getLogger("shop")
{after}
heatshield.user("u-1")
with heatshield.guard("work"):
{body}
try:
    1 / 0
except ZeroDivisionError:
    {failing}
logging.getLogger("opentelemetry").warning("never exported")
heatshield.flush()
"""
INSTRUMENT = "import heatshield; heatshield.instrument(service='shop')"
STDLIB = "    log.warning('bought %s', 7, extra={'user': 'mine', 'n': 1})\n    log.info('more')\n"
STRUCTLOG = "    slog.info('bought', n=7, password='x')\n    slog.debug('more')\n"

BASIC = "logging.basicConfig(level=logging.INFO, format='%(name)s %(message)s')"
DICT = """
import logging.config
console = {'class': 'logging.StreamHandler'}
logging.config.dictConfig({'version': 1, 'disable_existing_loggers': False,
    'handlers': {'c': console}, 'root': {'handlers': ['c'], 'level': 'INFO'}})
"""
REDACTING_JSON = """
import structlog
from structlog.processors import JSONRenderer, add_log_level, format_exc_info
def hide(logger, method, event):
    return {k: v for k, v in event.items() if k != 'password'}
structlog.configure(processors=[hide, add_log_level, format_exc_info, JSONRenderer()])
slog = structlog.get_logger().bind(bound=1)
"""
INTO_STDLIB = """
import structlog
logging.basicConfig(level=logging.INFO, format='%(message)s')
structlog.configure(processors=[structlog.processors.KeyValueRenderer()],
    logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
slog = structlog.get_logger('shop')
"""
LOG_BROKE, SLOG_BROKE = "log.exception('broke')", "slog.exception('broke')"
SETUPS = {
    "python's output of last resort": ("", "", STDLIB, LOG_BROKE),
    "basicConfig before": (BASIC, "", STDLIB, LOG_BROKE),
    "basicConfig after": ("", BASIC, STDLIB, LOG_BROKE),
    "dictConfig after": ("", DICT, STDLIB, LOG_BROKE),
    "structlog as it comes": (
        "", "import structlog\nslog = structlog.get_logger()", STRUCTLOG, SLOG_BROKE
    ),
    "structlog as JSON, redacting": (REDACTING_JSON, "", STRUCTLOG, SLOG_BROKE),
    "structlog into standard logging": (INTO_STDLIB, "", STRUCTLOG, SLOG_BROKE),
}  # fmt: skip


def program(setup, instrument):
    before, after, body, failing = setup
    return PROGRAM.format(
        before=before, instrument=instrument, after=after, body=body, failing=failing
    )


def steady(text):
    """Without what changes from run to run: times and the line numbers of the two programs."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|line \d+", "*", text)


@pytest.mark.parametrize("name", SETUPS)
def test_the_console_is_unchanged_and_each_record_is_exported_once(
    run_python, collector, plain, name
):
    bare = run_python(program(SETUPS[name], ""))
    code = program(SETUPS[name], INSTRUMENT)
    instrumented = run_python(code, HEATSHIELD_LOG_LEVEL="debug")
    assert instrumented.returncode == 0, instrumented.stderr
    assert steady(instrumented.stdout) == steady(bare.stdout)
    assert steady(instrumented.stderr) == steady(bare.stderr)
    bodies = [record.body.string_value for record in collector.logs]
    console = bare.stdout + bare.stderr
    expected = [text for text in ("bought", "more", "broke") if re.search(rf"\b{text}\b", console)]
    assert expected
    assert [body.split()[0] for body in bodies] == expected
    first, last = collector.logs[0], collector.logs[-1]
    ((_, span),) = [pair for pair in collector.spans if pair[1].name == "work"]
    assert (first.trace_id, first.span_id) == (span.trace_id, span.span_id)
    assert plain(first.attributes)["enduser.id"] == "u-1"
    assert last.severity_text == "ERROR"
    assert "ZeroDivisionError" in str(last)
    if "redacting" in name:
        found = plain(first.attributes)
        assert "password" not in found
        assert (found["bound"], found["n"]) == (1, 7)


def test_console_ids_are_added_when_asked_for(run_python):
    done = run_python(program(SETUPS["basicConfig before"], INSTRUMENT), HEATSHIELD_CONSOLE_IDS="1")
    assert re.search(
        r"shop bought 7 trace_id=[0-9a-f]{32} span_id=[0-9a-f]{16} user=u-1", done.stderr
    )


def test_pseudonyms_stand_in_log_lines_too(run_python, collector, plain):
    code = (
        "import logging, heatshield\n"
        "heatshield.instrument(service='shop', user_key='k')\n"
        "heatshield.user('ann')\n"
        "logging.getLogger('shop').warning('hello ann')\n"
        "heatshield.flush()\n"
    )
    assert "hello ann" in run_python(code).stderr
    (record,) = collector.logs
    known_as = plain(record.attributes)["enduser.id"]
    assert record.body.string_value == f"hello {known_as}"
    assert b"ann" not in b"".join(body for _, _, body, _, _ in collector.payloads)

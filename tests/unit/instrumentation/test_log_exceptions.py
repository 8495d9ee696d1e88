"""Exceptions and stacks in records of the standard library, as they are exported."""

import logging
import sys
import traceback

import pytest

from heatshield.export.logs import MAX_STACK_LENGTH


def raising():
    try:
        {}["hat"]
    except KeyError as error:
        error.add_note("it was sold")
        raise ValueError("no hat") from error


def test_an_exception_is_exported_with_its_causes(service, log):
    made = service()
    try:
        raising()
    except ValueError:
        log.exception("broke")
    (event,) = made.logs
    found = event.attributes
    assert (found["exception.type"], found["exception.message"]) == ("ValueError", "no hat")
    stack = found["exception.stacktrace"]
    for part in ("KeyError: 'hat'", "it was sold", "direct cause", "in raising", "ValueError: no"):
        assert part in stack


def test_a_group_is_exported_with_its_members(service, log):
    made = service()
    log.error("broke", exc_info=ExceptionGroup("both", [OSError("a"), KeyError("b")]))
    (event,) = made.logs
    found = event.attributes
    assert found["exception.type"] == "ExceptionGroup"
    assert "OSError: a" in found["exception.stacktrace"]
    assert "KeyError: 'b'" in found["exception.stacktrace"]


@pytest.mark.parametrize("exc_info", [True, (None, None, None), None, ()])
def test_no_exception_is_none(service, log, exc_info):
    made = service()
    log.error("said", exc_info=exc_info)
    (event,) = made.logs
    assert not [name for name in event.attributes if name.startswith("exception")]


def test_a_stack_that_was_asked_for_is_exported(service, log):
    made = service()
    log.error("said", stack_info=True)
    (event,) = made.logs
    assert "in test_a_stack_that_was_asked_for" in event.attributes["code.stacktrace"]


def test_an_exception_that_cannot_be_shown_is_its_type(service, log):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    made = service()
    log.error("said", exc_info=MuteError())
    (event,) = made.logs
    assert event.attributes["exception.message"] == "<MuteError>"
    assert event.attributes["exception.type"].endswith("MuteError")


def test_of_a_long_stack_both_ends_are_exported(service, log):
    made = service()
    error = RuntimeError("first " + 9_000 * "x" + " last")
    log.error("said", exc_info=error)
    (event,) = made.logs
    stack = event.attributes["exception.stacktrace"]
    assert len(stack) <= MAX_STACK_LENGTH
    assert stack.startswith("RuntimeError: first")
    assert stack.rstrip().endswith("last")


def test_a_stack_that_a_formatter_wrote_is_not_written_again(service, log, monkeypatch):
    made = service()
    log.propagate = False
    log.addHandler(logging.StreamHandler(sys.stderr))
    written = []
    format_exception = traceback.format_exception
    monkeypatch.setattr(
        traceback, "format_exception", lambda *a: written.append(0) or format_exception(*a)
    )
    try:
        raising()
    except ValueError:
        log.exception("broke")
    assert "in raising" in made.logs[0].attributes["exception.stacktrace"]
    assert written == []

"""Standard logging: each record that reaches a handler of the service is also exported, once.

``Logger.callHandlers`` is replaced instead of a handler being added: with a handler on the root
logger, Python's output of last resort would vanish, ``basicConfig`` would do nothing, and
``dictConfig``, which servers run when their workers start, would remove the handler. So the console
shows exactly what it showed before.

A record is read after its handlers are done: their filters may have redacted it, and one of them
has formatted message and stack, which need not be done twice: an argument may be a query that runs
when it is rendered.
"""

import logging
import os
import sys
import threading
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Final, NamedTuple

from heatshield.counters import fail_open
from heatshield.export.logs import (
    LogEvent,
    cut_stack,
    error_in,
    event_of,
    exception_attributes,
)
from heatshield.fork_hooks import in_child
from heatshield.integrations.logs.deduplicate import Emission, remember
from heatshield.integrations.logs.frame_disguise import Place, Tap
from heatshield.integrations.logs.log_tee import TAKING, LogTee, current_ids, ids_text
from heatshield.integrations.patches import Original
from heatshield.integrations.services import Services
from heatshield.sanitize.sanitizer import SANITIZER
from heatshield.tracing.values import plain

__all__ = ["NAME", "install", "remove"]

NAME: Final = "logging"

_MADE: Final = vars(logging.makeLogRecord({}))
_STANDARD: Final = frozenset(_MADE) | {"message", "asctime", "taskName"}
"""Fields of every record, in the order in which they are made, and those that formatters add. The
rest came in ``extra``."""

_USUAL_FIELDS: Final = len(_MADE)

_ESCAPE: Final = "\x1b"


class _Ids(NamedTuple):
    """What was put on a record for the console: fields, and a suffix behind its text."""

    fields: Collection[str] = ()
    suffix: str = ""


_NO_IDS: Final = _Ids()
_TAP: Final = Tap()


def install(services: Services) -> None:
    """Tee every record into the export."""
    places = [
        Place(logging.Logger, "callHandlers", _calling),
        Place(logging.LogRecord, "getMessage", _rendering),
    ]
    _TAP.put_in(LogTee(services, NAME), places)


def remove() -> None:
    """Stop exporting records."""
    _TAP.take_out()


def _calling(tap: Tap, original: Original) -> Original:
    genuine = getattr(original, "__module__", "") == "logging"
    return _instead(tap) if genuine else _around(tap, original)


def _around(tap: Tap, original: Original) -> Original:
    """``callHandlers`` around the function that another patch has put there before."""

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if TAKING.get():
            return
        emission = Emission(record)
        ids = _ids_on(record, emission, tap.tee)
        emission.reached = True
        try:
            original(logger, record)
        finally:
            if emission.close() and tap.tee is not None:
                tap.tee.send(_event, record, ids, emission)

    return call_handlers


def _instead(tap: Tap) -> Original:  # noqa: C901  # see below
    """``callHandlers`` as CPython has it, from 3.11 to 3.14, that also sees which handler takes it.

    All of it is one function because handlers may count the frames between them and the caller.
    """

    def call_handlers(  # noqa: C901  # see above
        logger: logging.Logger, record: logging.LogRecord
    ) -> None:
        if TAKING.get():
            return
        emission = Emission(record)
        ids = _ids_on(record, emission, tap.tee)
        written = record
        try:
            found = False
            node: logging.Logger | None = logger
            while node:
                for handler in node.handlers:
                    found = True
                    if record.levelno >= handler.level:
                        relays = emission.relays
                        answer: object = handler.handle(record)
                        if emission.relays == relays and (answer is True or _took(answer, handler)):
                            emission.reached = True
                            written = record if answer is True else _handed_on(answer, record)
                node = node.parent if node.propagate else None
            if found:
                return
            if logging.lastResort:
                if record.levelno >= logging.lastResort.level:
                    emission.reached = True
                    logging.lastResort.handle(record)
            elif logging.raiseExceptions and not _warned(logger):
                sys.stderr.write(f'No handlers could be found for logger "{logger.name}"\n')
        finally:
            if emission.close() and tap.tee is not None:
                tap.tee.send(_event, written, ids, emission)

    return call_handlers


def _rendering(tap: Tap, original: Original) -> Original:
    """``getMessage`` that also keeps what it has rendered."""
    del tap
    if getattr(original, "__module__", "") != "logging":
        return _rendering_around(original)

    def get_message(self: logging.LogRecord) -> str:
        """Return the message for this LogRecord, with its arguments merged in.

        As CPython has it. Its lines stand as far from the first as they do there,
        because the report of a record whose arguments don't fit shows the line that
        failed.
        """
        msg = str(self.msg)
        if self.args:
            msg = msg % self.args  # see above
        remember(self, msg)
        return msg

    return get_message


def _rendering_around(original: Original) -> Original:
    def get_message(self: logging.LogRecord) -> object:
        text = original(self)
        if isinstance(text, str):
            remember(self, text)
        return text

    return get_message


def _took(answer: object, handler: logging.Handler) -> bool:
    """Whether a handler took the record, by what its ``handle`` returned."""
    if answer is None:  # a class of the service's own, or this one
        return not isinstance(handler, logging.NullHandler)
    return answer is not False


def _handed_on(answer: object, record: logging.LogRecord) -> logging.LogRecord:
    """Since Python 3.12 a filter may hand on another record, and the handler returns it."""
    return answer if isinstance(answer, logging.LogRecord) else record


def _warned(logger: logging.Logger) -> bool:
    """Whether Python has warned already that there are no handlers; it does so once."""
    warned, logger.manager.emittedNoHandlerWarning = logger.manager.emittedNoHandlerWarning, True
    return warned


def _event(
    tee: LogTee, record: logging.LogRecord, ids: _Ids, emission: Emission
) -> LogEvent | None:
    every = record.__dict__
    thread, process = every["thread"], every["process"]
    if (thread is not None and thread != threading.get_ident()) or (
        process is not None and process != _PROCESS.id
    ):
        return None  # it came over a queue or socket, and was exported where it was made
    site = tee.admit(
        every["name"],
        every["pathname"],
        every["lineno"],
        every["funcName"] or "",
        every["levelno"],
    )
    if site is None:
        return None
    fields: list[tuple[object, object]] = []
    if len(every) > _USUAL_FIELDS + 1 + ("asctime" in every):
        # The fields of all records come first, unless the record's class is the service's own.
        skipped = _USUAL_FIELDS if type(record) is logging.LogRecord else 0
        for pair in islice(every.items(), skipped, None):
            if pair[0] not in _STANDARD:
                fields.append(pair)  # noqa: PERF401  # a comprehension costs a call in Python 3.11
    body = every.get("message")  # as a formatter has left it
    if type(body) is not str or _ESCAPE in body or type(record.msg) is not str:
        known = emission.rendered if record is emission.said else None
        body, more = _body_and_fields(record, known)
        fields.extend(more.items())
    if ids is not _NO_IDS:
        body = body.removesuffix(ids.suffix)
        fields = [pair for pair in fields if pair[0] not in ids.fields]
    if every["args"] or type(record.msg) is not str:
        body = _without_values(body, record)
    details = error = None
    if every["exc_info"] or every["stack_info"]:
        details, error = _details(record)
    return event_of(site, every["created"], body, fields, every["threadName"], details, error)


def _without_values(body: str, record: logging.LogRecord) -> str:
    """The text of a record that may have been given errors: without what databases' ones quote."""
    arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    for argument in (record.msg, *arguments):
        if isinstance(argument, BaseException):
            body = SANITIZER.quoting(body, argument)
    return body


def _details(record: logging.LogRecord) -> tuple[dict[str, str], BaseException | None]:
    exc_info, stack = record.exc_info, record.stack_info
    details = exception_attributes(exc_info, record.exc_text)
    if stack:
        details["code.stacktrace"] = cut_stack(str(stack))
    return details, error_in(exc_info)


def _body_and_fields(
    record: logging.LogRecord, known: str | None
) -> tuple[str, Mapping[object, object]]:
    """The message, and the fields of one that is a mapping.

    Args:
        record: a record.
        known: its message as a handler has rendered it; ``None`` if none has.
    """
    if isinstance(record.msg, Mapping):  # for formatters that render it
        said = dict(record.msg)
        body = said.pop("event", None) or said.pop("message", None)
        return str(plain(body)) if body else "", said
    if known is not None:
        return known, {}
    try:
        return record.getMessage(), {}
    except Exception:  # noqa: BLE001  # its arguments don't fit; a handler has shown that on the console
        return str(plain(record.msg)), {}


def _ids_on(record: logging.LogRecord, emission: Emission, tee: LogTee | None) -> _Ids:
    """Put the ids on a record where the settings ask for it."""
    if tee is None or not tee.console_ids or emission.outer is not None:
        return _NO_IDS
    return _append_ids(record) or _NO_IDS


@fail_open("logging", None)
def _append_ids(record: logging.LogRecord) -> _Ids:
    """Put the ids on the record, where it has no field of such a name, and behind its message."""
    ids = current_ids()
    fields = {name: value for name, value in ids.items() if name not in vars(record)}
    vars(record).update(fields)
    suffix = ids_text(ids)
    if isinstance(record.msg, str):
        # The arguments stay: formatters of access logs read them.
        record.msg += suffix.replace("%", "%%") if record.args else suffix
    return _Ids(fields, suffix)


class _Process:
    """This process's id, which costs a system call to ask for."""

    def __init__(self) -> None:
        self.id = os.getpid()
        in_child(self._renew)

    def _renew(self) -> None:
        self.id = os.getpid()


_PROCESS: Final = _Process()

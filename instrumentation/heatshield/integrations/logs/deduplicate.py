"""One record on its way through several logging libraries is still one record.

structlog renders into ``logging``, an ``InterceptHandler`` hands records of ``logging`` to loguru,
a ``PropagateHandler`` does the reverse. Each library's integration opens an :class:`Emission`
around what it writes. A record that is written inside another's, and says the same, is a relay: it
is not exported, and the outer one is, with its own fields, if the relay reached a handler or sink.
A record that a handler writes about its own work says something else, and is exported on its own.

It is never rendered to find that out: an argument may be a query that runs, or log by itself. What
the service has rendered, :func:`remember` keeps, for the export too.
"""

from contextvars import ContextVar, Token
from enum import Enum
from logging import LogRecord
from typing import Final

from heatshield.counters import COUNTERS
from heatshield.integrations.logs.same_text import repeats

__all__ = ["Emission", "Follows", "current", "remember"]

_INERT: Final = (str, int, float, bytes, type(None))
"""Kinds of arguments that tell their text at no cost, unless a class of its own changes it."""


class Follows(Enum):
    """Which records inside an emission are its relays."""

    SAYING_THE_SAME = 1
    THE_NEXT = 2
    NONE = 3


class Emission:
    """One record while it is being written, from its making to :meth:`close`.

    Args:
        said: the text, or a record of ``logging``.
        level: a number of :mod:`logging`, if it is known and no record says it.

    Attributes:
        said: as above; it may become more exact on the way.
        level: as above; 0 if it is not known.
        rendered: the text of a record, once the service has rendered it.
        outer: what this one is a relay of; ``None`` if it is no relay.
        follows: which records inside are relays of it.
        reached: a handler or a sink took it.
        relays: how many relays of it there were.
    """

    # In the class, because one is made for each record, and few of them change these.
    outer: "Emission | None" = None
    follows = Follows.SAYING_THE_SAME
    rendered: str | None = None
    level = 0
    reached = False
    relays = 0
    _open = True
    _around: "Emission | None" = None

    def __init__(self, said: object, level: int = 0) -> None:
        self.said = said
        if level:
            self.level = level
        outer = _CURRENT.get()
        if outer is not None:
            if outer.is_relayed_by(self):
                self.outer = outer
            elif self.text is None:
                self._around = outer  # asked again when the service has rendered it
        self._token: Token[Emission | None] = _CURRENT.set(self)

    def close(self) -> bool:
        """End it; returns whether it is to be exported."""
        try:
            _CURRENT.reset(self._token)
        except ValueError:  # a handler has changed the context under us; what is closed is ignored
            COUNTERS.error("relays")
        self._open = False
        around, self._around = self._around, None
        if around is not None and self.text is not None and around.is_relayed_by(self):
            self.outer = around
        if not self.reached:
            return False
        outer = self.outer
        if outer is None:
            return True
        outer.reached = True
        if outer.rendered is None and _is_handed_on(outer.said, self.said):
            outer.rendered = self.rendered
        return False

    def is_relayed_by(self, inner: "Emission") -> bool:
        """Whether a record inside is a relay of this one; if so it is counted."""
        if not self._open or self.follows is Follows.NONE:
            return False  # a task that was started inside has inherited an emission that is over
        if self.follows is Follows.THE_NEXT:
            self.follows = Follows.NONE
        elif inner.said is not self.said and not self._is_said_by(inner):
            return False
        self.relays += 1
        return True

    @property
    def text(self) -> str | None:
        """Its text; ``None`` if only rendering it, which is the service's to do, could tell."""
        if self.rendered is not None:
            return self.rendered
        said = self.said
        return _text(said) if isinstance(said, LogRecord) else str(said)

    def _is_said_by(self, inner: "Emission") -> bool:
        if _is_handed_on(self.said, inner.said):
            return True
        text, line = self.text, inner.text
        if text is None or line is None:
            return False
        if text == line:
            return True
        levels = {_level_of(self), _level_of(inner)} - {0}
        # What is handed on keeps its level.
        return len(levels) < 2 and repeats(line, text, _names_of(self, inner))  # noqa: PLR2004


def _level_of(emission: Emission) -> int:
    return emission.level or getattr(emission.said, "levelno", 0)


def _names_of(*emissions: Emission) -> str:
    return " ".join(str(getattr(emission.said, "name", "")) for emission in emissions)


def current() -> Emission | None:
    """The record that is being written in this context."""
    return _CURRENT.get()


def remember(record: LogRecord, text: str) -> None:
    """Keep the text of a record that the service has just rendered, as long as it is written."""
    emission = _CURRENT.get()
    if emission is not None and emission.said is record:
        emission.rendered = text


def _text(record: LogRecord) -> str | None:
    """The text of a record, as a formatter has left it, or if it takes no code of the service's."""
    formatted = vars(record).get("message")
    if isinstance(formatted, str):
        return formatted
    arguments = record.args or ()
    values = arguments.values() if isinstance(arguments, dict) else arguments
    if not all(map(_is_inert, (record.msg, *values))):
        return None
    try:
        return str(record.getMessage())
    except Exception:  # noqa: BLE001  # a format string that does not fit its arguments
        return str(record.msg)


def _is_inert(value: object) -> bool:
    kind = type(value)
    return kind in _INERT or (
        isinstance(value, _INERT) and kind.__str__ in _TEXTS and kind.__repr__ in _TEXTS
    )


_TEXTS: Final = frozenset(
    text for kind in (object, *_INERT) for text in (kind.__str__, kind.__repr__)
)


def _is_handed_on(outer: object, inner: object) -> bool:
    """Whether a handler logs a record's own text and arguments once more, not rendered yet."""
    if not isinstance(outer, LogRecord) or not outer.args:
        return False
    if not isinstance(inner, LogRecord):
        return inner is outer.msg
    mine, theirs = outer.args, inner.args
    if not isinstance(mine, tuple) or not isinstance(theirs, tuple):
        return inner.msg is outer.msg and mine is theirs
    return (
        inner.msg is outer.msg
        and len(mine) == len(theirs)
        and all(one is other for one, other in zip(mine, theirs, strict=True))
    )


_CURRENT: Final[ContextVar[Emission | None]] = ContextVar("heatshield-emission", default=None)

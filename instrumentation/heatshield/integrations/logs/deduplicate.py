"""One record on its way through several logging libraries is still one record.

structlog renders into ``logging``, an ``InterceptHandler`` hands records of ``logging`` to loguru,
a ``PropagateHandler`` does the reverse. Each library's integration opens an :class:`Emission`
around what it writes. A record that is written inside another's, and says the same, is a relay: it
is not exported, and the outer one is, with its own fields, if the relay reached a handler or sink.
A record that a handler writes about its own work says something else, and is exported on its own.
"""

import json
from contextvars import ContextVar, Token
from enum import Enum
from typing import Final, Protocol, cast

from heatshield.counters import COUNTERS

__all__ = ["Emission", "Follows", "current"]

SURE_LENGTH: Final = 8
"""Characters of a text that is hardly part of another by chance."""


class Follows(Enum):
    """Which records inside an emission are its relays."""

    SAYING_THE_SAME = 1
    THE_NEXT = 2
    NONE = 3


class _Record(Protocol):
    def getMessage(self) -> str: ...  # noqa: N802  # logging's name


class Emission:
    """One record while it is being written, from its making to :meth:`close`.

    Args:
        said: the text, or an object whose ``getMessage()`` makes it.

    Attributes:
        said: as above; it may become more exact on the way.
        outer: what this one is a relay of; ``None`` if it is no relay.
        follows: which records inside are relays of it.
        reached: a handler or a sink took it.
        relays: how many relays of it there were.
    """

    # In the class, because one is made for each record, and few of them change these.
    outer: "Emission | None" = None
    follows = Follows.SAYING_THE_SAME
    reached = False
    relays = 0
    _open = True

    def __init__(self, said: object) -> None:
        outer = _CURRENT.get()
        if outer is not None and outer.is_relayed_by(said):
            self.outer = outer
        self.said = said
        self._token: Token[Emission | None] = _CURRENT.set(self)

    def close(self) -> bool:
        """End it; returns whether it is to be exported."""
        try:
            _CURRENT.reset(self._token)
        except ValueError:  # a handler has changed the context under us; what is closed is ignored
            COUNTERS.error("relays")
        self._open = False
        if not self.reached:
            return False
        if self.outer is not None:
            self.outer.reached = True
            return False
        return True

    def is_relayed_by(self, said: object) -> bool:
        """Whether a record inside is a relay of this one; if so it is counted."""
        if not self._open or self.follows is Follows.NONE:
            return False  # a task that was started inside has inherited an emission that is over
        if self.follows is Follows.THE_NEXT:
            self.follows = Follows.NONE
        elif said is not self.said and not _says(_text(said), _text(self.said)):
            return False
        self.relays += 1
        return True


def current() -> Emission | None:
    """The record that is being written in this context."""
    return _CURRENT.get()


def _text(said: object) -> str:
    if isinstance(said, str):
        return said
    try:
        return str(cast("_Record", said).getMessage())
    except Exception:  # noqa: BLE001  # a format string that does not fit its arguments
        return str(getattr(said, "msg", ""))


def _says(text: str, same: str) -> bool:
    """Whether a rendered line says the same; it may have a prefix, a stack behind, or be JSON."""
    if text == same or text.endswith(same):
        return True
    return len(same) >= SURE_LENGTH and (same in text or json.dumps(same)[1:-1] in text)


_CURRENT: Final[ContextVar[Emission | None]] = ContextVar("heatshield-emission", default=None)

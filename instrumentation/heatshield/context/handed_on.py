"""The context of a request, for work of it that another thread does.

The request goes with the work and is released with it. Work that lives on, such as a loop that the
first request has started, must not be charged to that request's user for ever: what it was handed
runs out some time after the request has been answered.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar, cast

from opentelemetry.context import Context, create_key, get_current

from heatshield.context.attachment import attach, detach
from heatshield.context.deadline import TIME
from heatshield.context.request import REQUEST_KEY, Request, forget

__all__ = ["DAEMON_S", "MEASURED", "WORK_S", "HandedOn", "Work", "handed_on"]

WORK_S: Final = 600.0
"""For how long work that goes on after the answer is still the request's, from its handing on. What
takes longer than ten minutes is a service of its own, and can name its user."""

DAEMON_S: Final = 60.0
"""The same of a daemon thread, which is more often a loop than a piece of work: a user must not be
cut for a loop that only happened to begin with one of that user's requests."""

_UNTIL_KEY: Final = create_key("heatshield-handed-on-until")

T = TypeVar("T")


class Measured:
    """What measures work that another thread does for a request; nothing until it is set.

    Attributes:
        begin: called in that thread before the work, with its request.
        end: called after it, with what ``begin`` gave.
    """

    def __init__(self) -> None:
        self.begin: Callable[[Request], object | None] | None = None
        self.end: Callable[[object], object] | None = None


MEASURED: Final = Measured()


class HandedOn(Context):
    """A context that is empty once the request is over and the time for the rest of its work is up.

    Contexts that were made of it meanwhile, by a span that is open, keep what they have.

    Args:
        values: of the context to be handed on.
        until: monotonic seconds. What is handed on once more, as by a timer that starts the next,
            has no more time than that.
    """

    __slots__ = ("_until",)

    def __init__(self, values: dict[str, object], until: float) -> None:
        until = min(until, cast("float", values.get(_UNTIL_KEY, until)))
        super().__init__({**values, _UNTIL_KEY: until})
        self._until = until

    def get(self, key: str, default: object = None) -> object:
        """A value, as of any context."""
        self._expire()
        return dict.get(self, key, default)

    def __getitem__(self, key: str) -> object:
        self._expire()
        return dict.__getitem__(self, key)

    def __contains__(self, key: object) -> bool:
        self._expire()
        return dict.__contains__(self, key)

    def __iter__(self) -> Iterator[str]:
        self._expire()
        return dict.__iter__(self)

    def copy(self) -> dict[str, object]:
        """What a context that is made of it begins with."""
        self._expire()
        return dict.copy(self)

    def _expire(self) -> None:
        if TIME.monotonic() < self._until:
            return
        request = cast("Request | None", dict.get(self, REQUEST_KEY))
        if request is None or not request.span.is_recording():
            dict.clear(self)


class Work:
    """A function that runs in the context that it was handed on with, once.

    Args:
        function: the function.
        context: the context; released when the function ends.
    """

    __slots__ = ("_context", "_function")

    def __init__(self, function: Callable[..., T], context: HandedOn) -> None:
        self._function: Callable[..., object] = function
        self._context: HandedOn | None = context

    def __call__(self, /, *args: object, **kwargs: object) -> object:
        """Run it; whatever it returns or raises is the caller's."""
        context, self._context = self._context, None
        if context is None:
            return self._function(*args, **kwargs)
        token = attach(context)
        request = cast("Request | None", context.get(REQUEST_KEY))
        begin, end = MEASURED.begin, MEASURED.end
        measured = begin(request) if begin is not None and request is not None else None
        try:
            return self._function(*args, **kwargs)
        finally:
            if measured is not None and end is not None:
                end(measured)
            detach(token)
            if request is not None:
                forget(request)
            # An exception that is kept holds this frame, and must not hold the request.
            context = request = measured = None


def handed_on(seconds: float) -> HandedOn | None:
    """The current context, to be handed on; ``None`` if nothing runs in it.

    Args:
        seconds: for which it is handed on, if the request ends before.
    """
    values = get_current().copy()
    return HandedOn(values, TIME.monotonic() + seconds) if values else None

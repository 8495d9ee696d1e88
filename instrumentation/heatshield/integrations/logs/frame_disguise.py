"""Replacements of a logging library's methods, which look in the stack like the originals.

Logging libraries look for the caller of a log method by walking up the stack until they are out of
their own files or modules, and so do services' handlers (loguru's ``InterceptHandler``) and
``logging``'s own report of a failing handler. A frame of ours in between would stand as the place
in the service's log lines.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from types import CodeType, FunctionType
from typing import NamedTuple, TypeVar, cast

from heatshield.integrations.logs.log_tee import LogTee
from heatshield.integrations.patches import Original

__all__ = ["Place", "Tap", "disguised"]

F = TypeVar("F", bound=Original)


class Place(NamedTuple):
    """A method to be replaced.

    Attributes:
        owner: its class.
        name: of the method.
        making: makes the replacement from the tap and the original.
    """

    owner: type
    name: str
    making: "Callable[[Tap, Original], Original]"


class Tap:
    """The replacements in one library's classes, and where they lead.

    Replacements that another library has wrapped since stay, and find no tee then. So another
    installation does not replace them twice.

    Attributes:
        tee: where records lead; ``None`` while they lead nowhere.
    """

    def __init__(self) -> None:
        self.tee: LogTee | None = None
        self._replaced: list[tuple[Place, object, object]] = []

    def put_in(self, tee: LogTee, places: Iterable[Place]) -> None:
        """Lead records to ``tee``."""
        if not self._replaced:
            for place in places:
                original = vars(place.owner)[place.name]
                ours = disguised(place.making(self, original), original)
                setattr(place.owner, place.name, ours)
                self._replaced.append((place, original, ours))
        self.tee = tee

    def take_out(self) -> None:
        """Lead records nowhere, and put the originals back where that is possible."""
        tee, self.tee = self.tee, None
        if all(vars(place.owner).get(place.name) is ours for place, _, ours in self._replaced):
            for place, original, _ in self._replaced:
                setattr(place.owner, place.name, original)
            self._replaced.clear()
        if tee is not None:
            tee.close()


def disguised(function: F, original: Original) -> F:
    """``function`` with the file, module and name of ``original``.

    It keeps its module's globals as they are now, and sees no later patch of the module.
    """
    theirs: CodeType | None = getattr(original, "__code__", None)
    if theirs is None or not isinstance(function, FunctionType):
        return cast("F", wraps(original)(function))
    code = function.__code__.replace(
        co_filename=theirs.co_filename,
        co_firstlineno=theirs.co_firstlineno,
        co_name=theirs.co_name,
        co_qualname=theirs.co_qualname,
    )
    module = getattr(original, "__globals__", {}).get("__name__", function.__module__)
    ours = FunctionType(
        code,
        {**function.__globals__, "__name__": module},
        theirs.co_name,
        function.__defaults__,
        function.__closure__,
    )
    ours.__kwdefaults__ = function.__kwdefaults__
    return cast("F", wraps(original)(ours))

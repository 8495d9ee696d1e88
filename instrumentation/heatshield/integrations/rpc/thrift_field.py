"""How trace and user travel in a Thrift call: one more field of its arguments.

Every Thrift implementation skips fields that it doesn't know, which is how Thrift lets interfaces
grow. So a map of headers, as the field 26739 of the arguments' struct, reaches a peer that is
instrumented and is passed over by one that is not, in whatever language and protocol; there is no
handshake that an old peer could fail.

A rejection is a TApplicationException of type INTERNAL_ERROR whose message begins with the headers
that HTTP has: ``heatshield-breaker: b-1; retry-after: 7; refused by ...``.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from thriftpy2.thrift import TApplicationException, TType

from heatshield.names import BREAKER_HEADER
from heatshield.rejection import MAX_ID_LENGTH, STANDS_FOR, BreakerOpen

__all__ = ["FIELD", "Attributed", "WithField", "note_rejection", "rejection"]

FIELD: Final = "heatshield_headers"
FIELD_ID: Final = 0x6873
"""``hs``: 26739. Far from the small numbers that people give their fields."""

_SPEC: Final = (TType.MAP, FIELD, (TType.STRING, TType.STRING), False)


@lru_cache(4_096)
def with_field(arguments: type) -> type:
    """A class of arguments that has the field, too. It is the last one, if it is there."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        arguments.__init__(self, *args, **kwargs)  # type: ignore[misc]  # of that very class
        setattr(self, FIELD, None)

    spec: dict[int, Any] = arguments.thrift_spec  # type: ignore[attr-defined]
    return type(
        arguments.__name__,
        (arguments,),
        {
            "__init__": init,
            "__module__": arguments.__module__,
            "thrift_spec": {**spec, FIELD_ID: _SPEC},
        },
    )


class WithField:
    """A service whose calls' arguments have the field, for the code that reads or writes them."""

    __slots__ = ("_service",)

    def __init__(self, service: Any) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._service, name)
        return with_field(found) if name.endswith("_args") and isinstance(found, type) else found


class Attributed:
    """An object that has some attributes of its own and otherwise those of another one."""

    def __init__(self, other: Any, own: Mapping[str, Any]) -> None:
        vars(self).update(own)
        vars(self)["_heatshield_other"] = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heatshield_other, name)


# -- rejections ------------------------------------------------------------------------------------


def rejection(refusal: BreakerOpen) -> TApplicationException:
    """What a refused call is answered with."""
    said = refusal.headers
    marks = "; ".join(f"{name}: {said[name]}" for name in (BREAKER_HEADER, "retry-after"))
    return TApplicationException(TApplicationException.INTERNAL_ERROR, f"{marks}; {refusal}")


_MARKS: Final = re.compile(rf"{BREAKER_HEADER}: (.+?); retry-after: (\d{{1,9}});")


def note_rejection(error: BaseException) -> BreakerOpen | None:
    """The rejection that an answer is; noted on the error for :func:`heatshield.is_rejection`."""
    message = getattr(error, "message", None)
    if not isinstance(error, TApplicationException) or not isinstance(message, str):
        return None
    found = _MARKS.match(message)
    if found is None:
        return None
    refusal = BreakerOpen(found[1][:MAX_ID_LENGTH], float(found[2]))
    setattr(error, STANDS_FOR, refusal)
    return refusal

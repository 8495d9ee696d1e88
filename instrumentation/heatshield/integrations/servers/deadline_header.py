"""How long the caller of an HTTP request still waits, as its headers say."""

from collections.abc import Mapping
from typing import Final

from heatshield.context.deadline import TIME, Deadline, from_header
from heatshield.names import DEADLINE_HEADER
from heatshield.settings import ServiceSettings

__all__ = ["DeadlineHeader"]

_OURS: Final = DEADLINE_HEADER.encode()


class DeadlineHeader:
    """Reads deadlines from the headers of requests that come in.

    Args:
        settings: whether to, and from which header beside ours. At the edge no caller is believed.

    Attributes:
        names: the headers that are read, in lower case.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.names: tuple[bytes, ...] = ()
        if settings.deadlines and not settings.edge:
            other = settings.deadline_header.strip().lower().encode()
            self.names = (_OURS, other) if other else (_OURS,)

    def deadline(self, headers: Mapping[bytes, bytes]) -> Deadline | None:
        """The deadline of a request, if its headers (in lower case) say one; ours goes first."""
        for name in self.names:
            text = headers.get(name)
            if text is not None:
                found = from_header(text, TIME.monotonic())
                if found is not None:
                    return found
        return None

"""How long the caller of an HTTP request still waits, as its headers say."""

import time
from collections.abc import Mapping
from typing import Final

from heatshield.context.deadline import Deadline, arrived
from heatshield.names import DEADLINE_HEADER
from heatshield.settings import ServiceSettings

__all__ = ["Arrivals"]

_OURS: Final = DEADLINE_HEADER.encode()


class Arrivals:
    """Reads deadlines from the headers of requests that come in.

    Args:
        settings: whether to, and from which header beside ours. At the edge nobody is believed.

    Attributes:
        headers: what it reads, in lower case.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.headers: tuple[bytes, ...] = ()
        if settings.deadlines and not settings.edge:
            other = settings.deadline_header.strip().lower().encode()
            self.headers = (_OURS, other) if other else (_OURS,)

    def deadline(self, headers: Mapping[bytes, bytes]) -> Deadline | None:
        """The deadline of a request, if its headers (in lower case) say one; ours goes first."""
        for name in self.headers:
            text = headers.get(name)
            if text is not None:
                found = arrived(text, time.monotonic())
                if found is not None:
                    return found
        return None

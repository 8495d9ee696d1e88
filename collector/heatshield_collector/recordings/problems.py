"""What could not be read of a recording.

::

    RecordingError   nothing of the recording can be read: a file that is absent, or of no format
    Problem          a part of it, told by file and line, and counted; the rest is read
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["REASON_CHARS", "Problem", "RecordingError"]

REASON_CHARS: Final = 200
"""Of a parser's complaint this much is told; it can quote the file."""


class RecordingError(Exception):
    """A recording can't be read at all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A part of a recording that was left out.

    Attributes:
        file: where it is.
        place: ``line 12``, ``message 3`` or ``item 7``, counted from 1.
        reason: why.
        spans: how many spans are known to be left out; 0 where the whole part can't be read.
    """

    file: str
    place: str
    reason: str
    spans: int = 0

    def __str__(self) -> str:
        """The one line that people read."""
        reason = self.reason if len(self.reason) <= REASON_CHARS else self.reason[:REASON_CHARS]
        return f"{self.file}, {self.place}: {reason}"

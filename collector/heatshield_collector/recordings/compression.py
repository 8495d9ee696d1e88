"""Files as they are, or compressed by gzip or Zstandard: told by their first bytes, not by name."""

import zlib
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from heatshield_collector.recordings.problems import RecordingError

__all__ = ["READ_ERRORS", "ZSTD_MAGIC", "Source", "open_recording"]

GZIP_MAGIC: Final = b"\x1f\x8b"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"

STEP_BYTES: Final = 1 << 18
"""Bytes that are read at once; at most so many are lost before a place that is damaged."""

_GZIP_WBITS: Final = zlib.MAX_WBITS | 16

READ_ERRORS: Final = (OSError, EOFError, zlib.error, pa.ArrowException)
"""What reading a file that is damaged or cut short raises."""


class Source:
    """The bytes of a recording in order, with a look ahead.

    Args:
        path: the file.

    Attributes:
        name: of the file, for people.
        read_bytes: how many bytes of the file have been taken, as it lies on the disk.
        damage: why reading ended before the end of the file; empty: it did not.

    Raises:
        RecordingError: the file can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.damage = ""
        try:
            self._file = path.open("rb")
            magic = self._file.read(4)
            self._file.seek(0)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror or error}") from error
        self._stream: IO[bytes] | Any = self._file
        if magic.startswith(GZIP_MAGIC):
            self._stream = _Gzip(self._file)
        elif magic == ZSTD_MAGIC:
            self._stream = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), "zstd")
        self._ahead = b""

    @property
    def read_bytes(self) -> int:
        """How far the file has been read."""
        return self._file.tell()

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end, which stay to be read."""
        blocks, held = [self._ahead], len(self._ahead)
        while held < size and (more := self._step()):
            blocks.append(more)
            held += len(more)
        self._ahead = b"".join(blocks)
        return self._ahead[:size]

    def read(self) -> bytes:
        """Some more bytes; empty at the end."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        return self._step()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _step(self) -> bytes:
        if self.damage:
            return b""
        try:
            return bytes(self._stream.read(STEP_BYTES))
        except READ_ERRORS as error:
            self.damage = f"can't be read further: {error or type(error).__name__}"
            return b""


class _Gzip:
    """Inflates gzip, member after member. Python's own file object loses what it has inflated when
    a file is cut short.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._stream = zlib.decompressobj(_GZIP_WBITS)
        self._rest = b""
        self._begun = False

    def read(self, size: int) -> bytes:
        """Some inflated bytes, at most ``size``; empty at the end.

        Raises:
            EOFError: the file is cut short.
            zlib.error: it is damaged.
        """
        while True:
            compressed = self._rest or self._file.read(size)
            if not compressed and not self._begun:
                return b""
            inflated = self._stream.decompress(compressed, size)
            if not (compressed or inflated or self._stream.eof):
                raise EOFError("it is cut short")
            self._begun = True
            self._rest = self._stream.unconsumed_tail
            if self._stream.eof:
                self._rest = self._stream.unused_data.lstrip(b"\0")  # members may be padded
                self._stream = zlib.decompressobj(_GZIP_WBITS)
                self._begun = False
            if inflated:
                return inflated


def open_recording(path: Path) -> Source:
    """Open a file, whatever it is compressed by.

    Raises:
        RecordingError: it can't be opened.
    """
    return Source(path)

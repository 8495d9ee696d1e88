"""Chunked transfer coding (RFC 9112, 7.1), sans-io: feed bytes as they come, get the payload."""

from typing import Final

from heatshield.contract import ContractError

__all__ = ["Chunks"]

MAX_SIZE_LINE: Final = 1_024
"""Bytes of a chunk's size line with its extensions."""


class Chunks:
    """Decodes chunked transfer coding. ``ended`` turns true with the last chunk."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The payload that ``data`` completes.

        Raises:
            ContractError: if a size line is not one.
        """
        self._buffer += data
        payload = bytearray()
        while self._buffer and not self.ended:
            if self._left == 0 and not self._read_size():
                break
            if self.ended:
                break
            part = self._buffer[: self._left]
            del self._buffer[: len(part)]
            self._left -= len(part)
            payload += part
        return bytes(payload)

    def _read_size(self) -> bool:
        """Read one size line, skipping the line break that ends the chunk before it."""
        if self._buffer[:2] == b"\r\n":
            del self._buffer[:2]
        line, found, _ = self._buffer.partition(b"\n")
        if not found:
            if len(line) > MAX_SIZE_LINE:
                raise ContractError("a chunk's size line is too long")
            return False
        del self._buffer[: len(line) + 1]
        digits = bytes(line).split(b";")[0].strip()
        try:
            self._left = int(digits, 16)
        except ValueError as error:
            raise ContractError(f"a chunk has no size: {bytes(line[:32])!r}") from error
        if self._left < 0:
            raise ContractError("a chunk has a negative size")
        self.ended = self._left == 0
        return True

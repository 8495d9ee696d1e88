"""The pseudonym of a user id, and its replacement in texts: pure.

An id is found in a text as it is, in other letter case, percent-encoded (once or more), escaped as
in JSON or a ``repr``, in hexadecimal and in base64. Replacing must not garble other words. So an
ordinary id (``1``, ``ann``) is replaced only where it stands alone, between characters that are
neither letters nor digits; an id that hardly occurs by chance (six characters or more, not only
letters) is replaced everywhere, but never out of the middle of a number.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from heatshield.fork_locks import importing

__all__ = ["PREFIX", "Alias", "in_lower_case", "is_pseudonym", "pseudonym"]

PREFIX: Final = "hs1-"
"""Marks a pseudonym for people and services: 32 hexadecimal digits alone may be a raw id (a UUID,
an MD5), and a service must tell the two apart. The digit is the scheme's: another one (a longer
hash, another key) can come beside it."""

PSEUDONYM_BYTES: Final = 16
"""128 bits: no two of 10^9 users collide in practice."""

DISTINCTIVE_LENGTH: Final = 6
"""An id with a digit or sign in it and this many characters hardly occurs by chance."""

MIN_ENCODED_LENGTH: Final = 4
"""Characters of base64, and pairs of hexadecimal digits less one, that hardly occur by chance."""

MAX_ENCODINGS: Final = 3
"""Times that a text is percent-decoded: an address in an address in an address."""

_PSEUDONYM: Final = re.compile(PREFIX + r"[0-9a-f]{32}")
_SPLIT: Final = re.compile(f"({_PSEUDONYM.pattern})")
_UNIT: Final = re.compile(r"%(?:25)*([0-9a-fA-F]{2})|(.)", re.DOTALL)
_HTML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_NUMBER: Final = re.compile(r"\d+")

_SIGMA: Final = "\N{GREEK SMALL LETTER SIGMA}"
_FINAL_SIGMA: Final = "\N{GREEK SMALL LETTER FINAL SIGMA}"
"""A capital becomes one or the other, by the character after it."""


def pseudonym(key: bytes, user: str) -> str:
    """HMAC-SHA256 of the id, cut to 128 bits, behind :data:`PREFIX`."""
    with importing("hmac"):  # with it comes OpenSSL, which services without a key need not load
        import hmac

    digest = hmac.digest(key, user.encode("utf-8", "surrogatepass"), "sha256")
    return PREFIX + digest[:PSEUDONYM_BYTES].hex()


def is_pseudonym(text: str) -> bool:
    """Whether a text looks like one that :func:`pseudonym` made, with whatever key."""
    return text.startswith(PREFIX) and _PSEUDONYM.fullmatch(text) is not None


class Alias:
    """A user id and its pseudonym.

    Args:
        raw: the id; not empty.
        pseudonym: of the id.
    """

    __slots__ = ("_digital", "_spellings", "distinctive", "lowered", "pseudonym", "raw")

    def __init__(self, raw: str, pseudonym: str) -> None:
        self.raw = raw
        self.pseudonym = pseudonym
        self.distinctive = len(raw) >= DISTINCTIVE_LENGTH and not raw.isalpha()
        self.lowered = in_lower_case(raw)
        self._digital = _NUMBER.fullmatch(raw) is not None
        self._spellings: tuple[str, ...] = ()  # made when they are needed, off the request's way

    def masked(self, text: str) -> str:
        """``text`` with the pseudonym in each place of the id."""
        if self.lowered in in_lower_case(text):
            text = _outside(text, self._replaced_plain)
        for spelling in self._spellings or self._spell():
            if spelling in text:
                text = _outside(text, self._replaced_spellings)
                break
        if "%" in text and self._is_encoded_in(text):
            text = _outside(text, self._replaced_encoded)
        return text

    def _spell(self) -> tuple[str, ...]:
        longest_first = sorted(set(_spellings(self.raw)), key=len, reverse=True)
        self._spellings = tuple(longest_first)
        return self._spellings

    def _replaced_plain(self, text: str) -> str:
        return self._replaced(text, in_lower_case(text))

    def _replaced_spellings(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, self.pseudonym)
        return text

    def _replaced(self, text: str, seen: str, begins: Sequence[int] | None = None) -> str:
        """Replace in ``text`` each id found in ``seen``, whose characters begin at ``begins``."""
        parts: list[str] = []
        size, at = len(self.lowered), 0
        start = seen.find(self.lowered)
        while start >= 0:
            end = start + size
            if self._stands_alone(seen, start, end):
                first, last = (begins[start], begins[end]) if begins else (start, end)
                parts += (text[at:first], self.pseudonym)
                at, start = last, end
            else:
                start += 1
            start = seen.find(self.lowered, start)
        return "".join((*parts, text[at:])) if parts else text

    def _stands_alone(self, text: str, start: int, end: int) -> bool:
        before, after = text[start - 1 : start], text[end : end + 1]
        if self._digital and _in_decimal(text, start, end):
            return False
        touching: Callable[[str], bool] = str.isdigit if self.distinctive else str.isalnum
        return not (
            (touching(before) and touching(self.raw[0]))
            or (touching(after) and touching(self.raw[-1]))
        )

    def _is_encoded_in(self, text: str) -> bool:
        for _ in range(MAX_ENCODINGS):
            before, text = text, unquote(text)
            if self.lowered in in_lower_case(text):
                return True
            if text == before:
                break
        return self.lowered in in_lower_case(text.replace("+", " "))

    def _replaced_encoded(self, text: str) -> str:
        seen, begins = _decoded(text)
        if " " in self.raw:
            seen = seen.replace("+", " ")
        return self._replaced(text, in_lower_case(seen), begins)


def _outside(text: str, change: Callable[[str], str]) -> str:
    """Change the text between pseudonyms; a pseudonym stays as it is."""
    if PREFIX not in text:
        return change(text)
    pieces = _SPLIT.split(text)
    pieces[::2] = [change(piece) for piece in pieces[::2]]
    return "".join(pieces)


def _decoded(text: str) -> tuple[str, list[int]]:
    """A percent-encoded text decoded, and where in it each character, and the end, begins."""
    data, byte_begins = bytearray(), []
    for unit in _UNIT.finditer(text):
        encoded = bytes([int(unit[1], 16)]) if unit[1] else _bytes(unit[2])
        data += encoded
        byte_begins += [unit.start()] * len(encoded)
    decoded = data.decode("utf-8", "surrogateescape")
    begins, byte = [], 0
    for character in decoded:
        begins.append(byte_begins[byte])
        byte += len(character.encode("utf-8", "surrogateescape"))
    return decoded, [*begins, len(text)]


def _in_decimal(text: str, start: int, end: int) -> bool:
    """Whether a number is part of a version, an address or a fraction."""
    return (text[start - 1 : start] == "." and text[max(0, start - 2) : start - 1].isdigit()) or (
        text[end : end + 1] == "." and text[end + 1 : end + 2].isdigit()
    )


def in_lower_case(text: str) -> str:
    """``text`` in lower case, one character for each, so that places stay the same."""
    lowered = text.lower()
    if text.isascii():
        return lowered
    if len(lowered) != len(text):  # e.g. of İ, which becomes two
        lowered = "".join(low if len(low := char.lower()) == 1 else char for char in text)
    return lowered.replace(_FINAL_SIGMA, _SIGMA)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _spellings(raw: str) -> Iterator[str]:
    """The id as programs write it, where that differs from the id."""
    data = _bytes(raw)
    quoted = (json.dumps(raw)[1:-1], ascii(raw)[1:-1], repr(raw)[1:-1], repr(data)[2:-1])
    escaped = {raw.translate(_HTML), *quoted}
    yield from escaped - {raw}
    if len(data) >= MIN_ENCODED_LENGTH - 1:
        yield data.hex()
        yield data.hex().upper()
    for encode in (b64encode, urlsafe_b64encode):
        for offset in range(3):
            core = _core(encode, data, offset)
            if len(core) >= MIN_ENCODED_LENGTH:
                yield core


def _core(encode: Callable[[bytes], bytes], data: bytes, offset: int) -> str:
    """The characters of base64 that depend on the id alone, with ``offset`` bytes before it."""
    encoded = encode(b"\0" * offset + data)
    first, last = -(-8 * offset // 6), 8 * (offset + len(data)) // 6
    return encoded[first:last].decode()

"""Reads the fields of the contract's JSON, strictly: what is not as it should be raises."""

import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "ContractError", "decode", "integer_in", "is_number", "object_of", "rate_in", "text_in",
    "within",
]  # fmt: skip

MOST_DIGITS: Final = 20
"""Of an epoch or a version as text: as many as 64 bits have. Python refuses to read thousands."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""JSON can say half of a character. No text with one can be written as UTF-8: not in a metric, not
in an answer, not in the audit."""

_SHOWN: Final = 40
"""Characters of a value that an error quotes."""


class ContractError(ValueError):
    """Input that does not follow the contract; says what and where."""


def is_number(text: str) -> bool:
    """Whether a text is a whole number that is not negative, of so many digits at most."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def decode(text: str | bytes) -> object:
    """Parse JSON text.

    Raises:
        ContractError: if it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"not JSON: {error}") from error


def object_of(value: object, what: str) -> dict[str, Any]:
    """The object that a value is.

    Raises:
        ContractError: if it is none.
    """
    if not isinstance(value, dict):
        raise ContractError(f"{what} is not an object")
    return value


def text_in(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field's text, which is not empty.

    Raises:
        ContractError: if it is anything else.
    """
    value = fields.get(name, default)
    if not isinstance(value, str) or not value:
        raise ContractError(f"{name} is not a non-empty string: {value!r}")
    return _SURROGATES.sub("\ufffd", value)


def integer_in(fields: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A field's whole number.

    Raises:
        ContractError: if it is anything else.
    """
    value = fields.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ContractError(f"{name} is not an integer: {value!r}")
    return value


def rate_in(fields: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A field's number, which is finite and not negative.

    Raises:
        ContractError: if it is anything else.
    """
    value = fields.get(name, default)
    is_rate = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number may have more digits than a float can hold, and than are worth telling.
    if not is_rate or not 0 <= value <= sys.float_info.max:
        raise ContractError(f"{name} is not a rate: {str(value)[:_SHOWN]!r}")
    return float(value)


def within(value: int, most: int) -> int:
    """The number, or the nearest from 0 to ``most``."""
    return min(max(0, value), most)

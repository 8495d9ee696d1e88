"""A limit that an operator declares: so much a second for each user, call or tenant.

It is part of the breaker contract (:mod:`heatshield.contract`). All instances of a service keep it
together: each spends the share of it that the collector deals to it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

from heatshield.call_key import SEPARATOR, is_plain
from heatshield.json_fields import ContractError, integer_in, object_of, rate_in, text_in

__all__ = ["DeclaredLimit", "LimitPer", "LimitUnit"]


class LimitUnit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    BUSY = "busy"
    """Busy seconds: the time that the calls ran for."""
    ELEMENTS = "elements"
    """Elements of collections that were read or written."""
    BYTES = "bytes"
    """Bytes that requests and answers moved."""


class LimitPer(StrEnum):
    """Whose calls are counted together."""

    USER = "user"
    """All calls of one user that the limit is about."""
    USER_CALL = "user_call"
    """One user's calls of one operation."""
    CALL = "call"
    """All users' calls of one operation."""
    TENANT = "tenant"
    """All that the limit is about."""


_NAME_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class DeclaredLimit:
    """A limit.

    Attributes:
        id: names it in headers and the audit: lower-case letters, digits, ``-``, ``_`` and ``.``.
        per: whose calls are counted together.
        unit: what is counted.
        rate_per_s: so much each second, of all instances together.
        burst: as much more at once, after a pause. At least one second's worth.
        service: whose calls it is about; empty: every service's, each by itself.
        call: the operation; empty: every one.
        user: the one user; empty: every one.
        instances: of the service when it was declared. One that is dealt no share spends an equal
            part.
    """

    id: str
    per: LimitPer
    unit: LimitUnit
    rate_per_s: float
    burst: float = 0.0
    service: str = ""
    call: str = ""
    user: str = ""
    instances: int = 1

    def key(self, user: str | None, call: str) -> str | None:
        """Names what is counted together, for one call; ``None``: the limit is not about it."""
        if (self.call and call != self.call) or (self.user and user != self.user):
            return None
        if self.per is LimitPer.TENANT:
            return self.id
        if self.per is LimitPer.CALL:
            return f"{self.id}{SEPARATOR}{call}"
        if user is None:
            return None
        if self.per is LimitPer.USER:
            return f"{self.id}{SEPARATOR}{user}"
        return f"{self.id}{SEPARATOR}{call}{SEPARATOR}{user}"

    def to_json(self) -> dict[str, Any]:
        """As a plain object for a JSON encoder."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check and read a limit.

        Raises:
            ContractError: if it does not follow the contract. Unknown fields are ignored.
        """
        fields = object_of(value, "limit")
        name = text_in(fields, "id")
        if len(name) > _NAME_LENGTH or not is_name(name):
            raise ContractError(f"limit.id {name!r} is no name of lower-case letters and digits")
        rate = rate_in(fields, "rate_per_s")
        if not rate:
            raise ContractError(f"limit {name}: rate_per_s is 0; to refuse all, trip the call")
        return cls(
            id=name,
            per=LimitPer(_one_of(fields, "per", LimitPer)),
            unit=LimitUnit(_one_of(fields, "unit", LimitUnit)),
            rate_per_s=rate,
            burst=rate_in(fields, "burst", 0.0),
            **{part: _part(fields, part) for part in ("service", "call", "user")},
            instances=max(1, integer_in(fields, "instances", 1)),
        )


def is_name(text: str) -> bool:
    """Whether a text can name a limit, in a header and in a metric."""
    plain = text.replace("-", "").replace("_", "").replace(".", "")
    return plain.isascii() and plain.isalnum() and text == text.lower()


def _one_of(fields: Mapping[str, Any], name: str, known: type[StrEnum]) -> str:
    value = text_in(fields, name)
    if value not in list(known):  # Python 3.11: a plain text is never "in" an Enum class
        raise ContractError(f"limit.{name} {value!r} is unknown")
    return value


def _part(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or not is_plain(value):
        raise ContractError(f"limit.{name} is too long or not printable")
    return value

"""What a detector says, as it travels to alerts, to the journal and to people."""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Finding", "FindingClass", "Key", "key_texts"]

FindingClass = Literal["hot", "heavy"]

_SEPARATOR = "\x1f"
_JOINT = pa.scalar(_SEPARATOR, pa.string())


@dataclass(frozen=True, slots=True)
class Key:
    """One user on one call: what is loaded, judged and cut."""

    user: str
    service: str
    call: str

    @property
    def text(self) -> str:
        """As the sketches name it. A separator in a service's or call's name would shift the parts,
        and the wrong user would be read back, so there it is left out.
        """
        if _SEPARATOR in self.service or _SEPARATOR in self.call:
            service, call = (name.replace(_SEPARATOR, "") for name in (self.service, self.call))
            return _SEPARATOR.join((self.user, service, call))
        return f"{self.user}{_SEPARATOR}{self.service}{_SEPARATOR}{self.call}"

    @classmethod
    def of(cls, text: str) -> "Key":
        """Read it back. A user's name may hold the separator."""
        user, service, call = text.rsplit(_SEPARATOR, 2)
        return cls(user, service, call)


def key_texts(
    users: pa.ChunkedArray, services: pa.ChunkedArray, calls: pa.ChunkedArray
) -> pa.ChunkedArray:
    """:attr:`Key.text` of each row."""
    names = (pc.replace_substring(column, _SEPARATOR, "") for column in (services, calls))
    return pc.binary_join_element_wise(users, *names, _JOINT)


@dataclass(frozen=True, slots=True)
class Finding:
    """A user on a call that stands out.

    Attributes:
        klass: ``hot`` (may trip) or ``heavy`` (report only).
        key: who and where.
        cost: which cost it is about.
        window: the window that showed it.
        load: lower bound of that load, cost per second, not clipped.
        baseline: upper bound of his own load over the five minutes before.
        reason: one sentence for people.
        trace_ids: hexadecimal, the costliest first.
    """

    klass: FindingClass
    key: Key
    cost: str
    window: str
    load: float
    baseline: float
    reason: str
    trace_ids: list[str] = field(default_factory=list)

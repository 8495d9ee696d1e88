"""The key of everything that is charged, judged or cut: one user on one call of one tenant.

Services, breaker control and detection share this one type and its one text form, so a key that a
detector names is the key that a breaker holds.
"""

from typing import Final, NamedTuple, Self

__all__ = ["DEFAULT_TENANT", "LONGEST", "SEPARATOR", "CallKey", "is_plain"]

DEFAULT_TENANT: Final = "default"
"""The tenant of a platform that has only one."""

SEPARATOR: Final = "\x1f"
"""Between the parts of :attr:`CallKey.text`: the unit separator, U+001F."""

LONGEST: Final = 256
"""Characters of a user, service or call in a key; a longer one is hashed
(:func:`heatshield.identity.wire_id.wire_id`)."""


def is_plain(text: str) -> bool:
    """Whether a text can be part of a key as it is: not too long, and all of it printable."""
    return len(text) <= LONGEST and text.isprintable()


class CallKey(NamedTuple):
    """A user on a call.

    Attributes:
        tenant: whose platform it is.
        user: the end user, as services name it; ``None`` when no user is known. A user may bear
            any name, ``unknown`` too.
        service: the service of the call; empty for a user over all calls.
        call: the operation of that service; empty for a user over all calls.
    """

    tenant: str
    user: str | None
    service: str
    call: str

    @property
    def text(self) -> str:
        """One text for this key, as sketches and stored state have it.

        The user stands last and may hold any character, the separator too; without a user there is
        no fourth part. A separator in another part would shift the parts, and the wrong user would
        be read back, so there it is left out.
        """
        head = SEPARATOR.join(
            part.replace(SEPARATOR, "") for part in (self.tenant, self.service, self.call)
        )
        return head if self.user is None else f"{head}{SEPARATOR}{self.user}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read :attr:`text` back.

        Raises:
            ValueError: if it has fewer than three parts.
        """
        parts = text.split(SEPARATOR, 3)
        if len(parts) < 3:  # noqa: PLR2004 - tenant, service, call
            raise ValueError(f"no key of a call: {text!r}")
        tenant, service, call, *user = parts
        return cls(tenant, user[0] if user else None, service, call)

"""The user a request acts for, and the ids that are masked in its telemetry."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from heatshield.identity.pseudonym import Alias

__all__ = ["ActingUser"]

MAX_ALIASES: Final = 8
"""Users of one request whose ids are masked: the acting, a page's owner, an impersonated one."""


@dataclass(slots=True, eq=False)
class ActingUser:
    """The acting user of one request.

    Attributes:
        user: the acting user, a pseudonym if those are in use; ``None`` while unknown.
        raw_user: the id behind the pseudonym, where one is in use and this process knows it; it
            never leaves the process and is kept only to be masked.
        source: where the user was named, one of :data:`heatshield.identity.identify.SOURCES`.
        aliases: of all users that the request names, as far as their raw ids are known.
    """

    user: str | None = None
    raw_user: str = ""
    source: str = ""
    aliases: tuple[Alias, ...] = ()

    def name(self, alias: Alias, source: str) -> None:
        """Name the acting user, where a pseudonym is in use."""
        self.user, self.raw_user, self.source = alias.pseudonym, alias.raw, source
        self.know(alias)

    def know(self, alias: Alias) -> None:
        """Mask one more id in the telemetry of this request."""
        if alias.pseudonym == self.user:
            self.raw_user = alias.raw
        if alias not in self.aliases:
            self.aliases = (*self.aliases[-MAX_ALIASES + 1 :], alias)

    def masked(self, text: str) -> str:
        """``text`` with the raw user ids, however they are written, replaced by pseudonyms."""
        for alias in self._all_aliases():
            text = alias.masked(text)
        return text

    def masked_values(self, attributes: Mapping[str, object]) -> dict[str, object]:
        """Attributes with their texts masked, those in lists and mappings too."""
        if not self._all_aliases():
            return attributes if isinstance(attributes, dict) else dict(attributes)
        return {key: self._masked_value(value) for key, value in attributes.items()}

    def _masked_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, tuple):
            return tuple(self._masked_value(item) for item in value)
        return self.masked_values(value) if isinstance(value, Mapping) else value

    def _all_aliases(self) -> tuple[Alias, ...]:
        if self.raw_user and not self.aliases and self.user is not None:
            return (_alias(self.raw_user, self.user),)  # copied from another one
        return self.aliases


_alias: Final = lru_cache(1_024)(Alias)

"""Finds the entries that are about a call, by their scopes; immutable."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import translate
from typing import Final

from heatshield.contract import BreakerEntry, BreakerMode, EntryScope

__all__ = ["EMPTY", "EntryIndex", "rejecting"]


class EntryIndex:
    """The entries of one tenant and one service.

    Args:
        entries: that are granted, of whichever tenant and service.
        tenant: of this process.
        service: of this process, as entries name it.

    Attributes:
        exact: those about one user's one call, by both.
        paced: ids of those that pace, whose budgets this service has to do with.
    """

    __slots__ = ("_patterns", "_wide", "exact", "paced")

    def __init__(self, entries: Iterable[BreakerEntry], tenant: str, service: str) -> None:
        # By what varies of a CallKey here, (user, call): two parts hash faster than four.
        self.exact: dict[tuple[str, str], BreakerEntry] = {}
        self._wide: dict[tuple[str, str], tuple[BreakerEntry, ...]] = {}
        self._patterns: list[tuple[re.Pattern[str], re.Pattern[str], BreakerEntry]] = []
        self.paced: set[str] = set()
        for entry in entries:
            tenants = (entry.tenant, None)[entry.scope is EntryScope.CALL]
            if entry.service != service or tenants not in (None, tenant):
                continue
            if entry.mode is BreakerMode.PACE:
                self.paced.add(entry.id)
            if entry.scope is EntryScope.USER_CALL:
                self.exact[entry.user, entry.call] = entry
            elif entry.scope is EntryScope.PATTERN:
                user, call = (re.compile(translate(one)) for one in (entry.user, entry.call))
                self._patterns.append((user, call, entry))
            else:  # a tenant's calls of an operation, and all of it, are one key here
                key = (entry.user, entry.call)
                self._wide[key] = (*self._wide.get(key, ()), entry)

    def __bool__(self) -> bool:
        return bool(self.exact or self._wide or self._patterns)

    @property
    def only_exact(self) -> bool:
        """Whether each entry is about one user's one call."""
        return not (self._wide or self._patterns)

    def matching(self, user: str | None, call: str) -> Iterator[BreakerEntry]:
        """The entries that are about a user's call, the narrowest scope first."""
        if user is not None and (exact := self.exact.get((user, call))) is not None:
            yield exact
        if self._wide:
            for key in ((user or "", ""), ("", call)) if user is not None else (("", call),):
                yield from self._wide.get(key, ())
        for of_user, of_call, entry in self._patterns:
            if user is not None and of_user.match(user) and of_call.match(call):
                yield entry

    def is_about(self, call: str) -> bool:
        """Whether some user's entry is about this call."""
        return (
            any(call == held for _, held in self.exact)
            or any(held in ("", call) for _, held in self._wide)
            or any(of_call.match(call) for _, of_call, _ in self._patterns)
        )


EMPTY: Final = EntryIndex((), "", "")


def rejecting(
    entries: Iterable[BreakerEntry], tenant: str
) -> dict[tuple[str, str, str], BreakerEntry]:
    """The entries by which a caller of any service may refuse: by user, service and call.

    Those that reject one user's one call, and let nothing through to probe.
    """
    return {
        (entry.user, entry.service, entry.call): entry
        for entry in entries
        if entry.mode is BreakerMode.REJECT
        and entry.scope is EntryScope.USER_CALL
        and entry.tenant == tenant
        and not entry.prober
    }

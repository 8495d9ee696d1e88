"""Which held entries are about a user's call, as a service finds them: of any scope."""

from collections.abc import Iterable, Iterator

from heatshield.breakers.entry_index import EntryIndex
from heatshield.call_key import CallKey
from heatshield.contract import BreakerEntry

__all__ = ["entries_about"]


def entries_about(key: CallKey, entries: Iterable[BreakerEntry]) -> Iterator[BreakerEntry]:
    """The entries about a key, the narrowest scope first.

    Args:
        key: of a user's call; without a call, of all calls of the user to the service.
        entries: that are held.
    """
    of_service = [entry for entry in entries if entry.service == key.service]
    if not of_service:
        return iter(())
    return EntryIndex(of_service, key.tenant, key.service).matching(key.user, key.call)

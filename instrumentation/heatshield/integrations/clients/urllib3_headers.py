"""Puts our headers on what goes out through urllib3, on copies of what the service gives.

requests goes through urllib3, too. Its requests are never changed, because a service may send one
again, in several threads at once, and adapters put headers on it themselves: what an integration of
requests wants to send is carried to the pool that the request goes to.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from heatshield.context.propagator import is_propagation_field
from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.patches import Args, Kwargs

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["Carried", "Carrying", "carried_to", "carry", "given_headers", "let_go", "with_headers"]

HEADERS_AT: Final = 3
"""Where headers stand among the arguments of ``urlopen``: after method, URL and body."""


class _Headers(Protocol):
    def copy(self) -> MutableMapping[str, str]: ...

    def keys(self) -> Iterable[str]: ...

    def __getitem__(self, name: str, /) -> str: ...


class _Request(Protocol):
    """What is used of a prepared request of requests."""

    @property
    def headers(self) -> object: ...


class Carried(NamedTuple):
    """Headers for one request of requests.

    Attributes:
        request: the service's own.
        headers: to be sent with it.
        propagates: whether they take the place of all propagation fields that it has.
    """

    request: _Request
    headers: Mapping[str, str]
    propagates: bool


_CARRIED: Final[ContextVar[Carried | None]] = ContextVar("heatshield-carried", default=None)

Carrying = Token[Carried | None]


def carry(request: _Request, headers: Mapping[str, str], *, propagates: bool) -> Carrying:
    """Send some headers with a request that is about to go out in this context.

    Returns:
        What :func:`let_go` takes when the request is over.
    """
    before = _CARRIED.get()
    if before is not None and before.request is request:
        headers = {**before.headers, **headers}
        propagates = propagates or before.propagates
    return _CARRIED.set(Carried(request, headers, propagates))


@fail_open("urllib3", None)
def let_go(carrying: Carrying | None) -> None:
    """The request is over."""
    if carrying is not None:
        _CARRIED.reset(carrying)


def carried_to(args: Args, kwargs: Kwargs) -> Carried | None:
    """What is carried for the request of which a pool got the headers.

    An adapter may make other calls on the way, for a token, say; those are not the request's.
    """
    carried = _CARRIED.get()
    if carried is None:
        return None
    given, own = given_headers(args, kwargs), carried.request.headers
    return carried if given is own or given == own else None


def with_headers(
    pool: "HTTPConnectionPool",
    args: Args,
    kwargs: Kwargs,
    headers: Mapping[str, str],
    *,
    propagates: bool,
) -> tuple[Args, Kwargs]:
    """The arguments of ``urlopen`` with other headers.

    Args:
        pool: whose own headers are sent where none are given.
        args: by position, after the pool.
        kwargs: by name.
        headers: to be sent.
        propagates: whether all propagation fields that may have been copied are dropped.
    """
    try:
        given = given_headers(args, kwargs)
        own = cast("_Headers", pool.headers if given is None else given)
        merged = own.copy() if hasattr(own, "copy") else dict(own)
        ours = {name.lower() for name in headers}
        for name in list(merged):
            if name.lower() in ours or (propagates and is_propagation_field(name)):
                del merged[name]
        merged.update(headers)
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error("urllib3")
        return args, kwargs
    if len(args) > HEADERS_AT:
        return (*args[:HEADERS_AT], merged, *args[HEADERS_AT + 1 :]), kwargs
    return args, {**kwargs, "headers": merged}


def given_headers(args: Args, kwargs: Kwargs) -> object:
    """The headers that a call of ``urlopen`` is given; ``None``: the pool's own are sent."""
    return args[HEADERS_AT] if len(args) > HEADERS_AT else kwargs.get("headers")

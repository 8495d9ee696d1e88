"""requests: local breakers, deadlines and retry budgets of outgoing calls.

A call is one ``HTTPAdapter.send``. Its peer is host and port; its name is the method, with the
operation of this service that calls, as for httpx.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from heatshield.context.deadline import milliseconds
from heatshield.context.request import call_in
from heatshield.counters import COUNTERS, fail_open
from heatshield.integrations.clients.http_outcome import http_outcome
from heatshield.integrations.clients.urllib3 import patch_for, unpatch_for
from heatshield.integrations.clients.urllib3_headers import carry, let_go
from heatshield.integrations.patches import Args, Kwargs, Original, Patches
from heatshield.integrations.services import Services
from heatshield.names import DEADLINE_HEADER
from heatshield.resilience.downstream import DOWNSTREAM, Begun
from heatshield.resilience.local_breaker import Outcome

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from urllib3.util import Timeout

__all__ = ["NAME", "install", "remove"]

NAME: Final = "downstream_requests"

TIMEOUT_AT: Final = 1
"""Where ``timeout`` stands after the request in ``HTTPAdapter.send``."""

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Ask before each call of an adapter, if the settings want anything asked.

    Raises:
        ImportError: if requests is not installed.
    """
    from requests.adapters import HTTPAdapter

    remove()
    if DOWNSTREAM.install(NAME, services.settings):
        _PATCHES.wrap(HTTPAdapter, "send", _around)
        patch_for(NAME)


def remove() -> None:
    """Take the patches out again."""
    unpatch_for(NAME)
    _PATCHES.undo()
    DOWNSTREAM.remove(NAME)


def _around(original: Original) -> Original:
    @wraps(original)
    def send(adapter: object, request: PreparedRequest, *args: object, **kwargs: object) -> object:
        begun = _begin(request)
        if begun is None:
            return original(adapter, request, *args, **kwargs)
        carrying = None
        if begun.left_s is not None:
            left = {DEADLINE_HEADER: milliseconds(begun.left_s)}
            carrying = carry(request, left, propagates=False)
            args, kwargs = _hurried(begun, args, kwargs)
        try:
            response = original(adapter, request, *args, **kwargs)
        except BaseException as error:
            _failed(begun, error)
            raise
        finally:
            let_go(carrying)
        begun.end(http_outcome(cast("Response", response)))
        return response

    return send


def _begin(request: PreparedRequest) -> Begun | None:
    if DOWNSTREAM.idle:
        return None
    return DOWNSTREAM.begin(_peer(request), str(request.method), call_in)


@fail_open(NAME, "")
def _peer(request: PreparedRequest) -> str:
    return str(urlsplit(request.url).netloc).rpartition("@")[2].lower()


def _hurried(begun: Begun, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """The arguments of ``send`` after the request, with no more time than is left."""
    try:
        if len(args) > TIMEOUT_AT:
            timeout = _timeout(args[TIMEOUT_AT], begun)
            return (*args[:TIMEOUT_AT], timeout, *args[TIMEOUT_AT + 1 :]), kwargs
        return args, {**kwargs, "timeout": _timeout(kwargs.get("timeout"), begun)}
    except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
        COUNTERS.error(NAME)
        return args, kwargs


def _timeout(own: object, begun: Begun) -> object:
    """The timeout that requests was given, in one of its four forms, and no more than is left."""
    if isinstance(own, tuple):
        return tuple(begun.timeout_s(step) for step in own)
    if own is None or isinstance(own, int | float):
        return begun.timeout_s(own)
    cut = cast("Timeout", own).clone()
    cut.total = begun.timeout_s(cast("float | None", cut.total))
    return cut


@fail_open(NAME, None)
def _failed(begun: Begun, error: BaseException) -> None:
    import requests

    if isinstance(error, requests.Timeout):
        begun.timed_out()
    elif isinstance(error, requests.ConnectionError | requests.exceptions.RetryError):
        begun.end(Outcome.FAILURE)
    else:
        begun.end(Outcome.CUT)

"""What an integration may use of the runtime that installs it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from heatshield.context.propagator import RequestPropagator
from heatshield.export.logs import LogEvent
from heatshield.identity.sources import Identity
from heatshield.settings import ServiceSettings

__all__ = ["AsgiApp", "Services"]

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An application of ASGI. Each framework types scope, receive and send in its own way."""


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to each integration's ``install``.

    Attributes:
        settings: of the instrumented service.
        identity: reads users from requests.
        propagator: reads and writes the headers that requests travel under.
        log: takes a log event to export; never blocks.
        serving: to be called when a server starts to serve, so that breakers are followed early.
        flush: sends what is queued, for at most 2 s; for servers that end without exit handlers.
        page: the ASGI application that answers at ``metrics_path``.
    """

    settings: ServiceSettings
    identity: Identity
    propagator: RequestPropagator
    log: Callable[[LogEvent], None]
    serving: Callable[[], object]
    flush: Callable[[], object]
    page: Callable[[], AsgiApp]


Equipment = Services

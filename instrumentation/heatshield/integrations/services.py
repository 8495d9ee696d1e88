"""What an integration may use of the runtime that installs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heatshield.context.propagator import RequestPropagator
from heatshield.export.logs import LogEvent
from heatshield.identity.identify import Identity
from heatshield.settings import ServiceSettings

if TYPE_CHECKING:
    from heatshield.metrics.exposition import AsgiApp

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """Handed to each integration's ``install``.

    Attributes:
        settings: of the instrumented service.
        identity: reads users from requests.
        propagator: reads and writes the headers that requests travel under.
        log: takes a log event to export; never blocks.
        serving: to be called when a server starts to serve, so that breakers are followed early.
        following: to be called when messages are asked for, so that breakers are followed before
            the first is processed; never blocks.
        working: to be called when a queue's worker begins, before it forks or takes a job: breakers
            are followed, and what is tripped is known once it returns, after 1 s at most.
        flush: sends what is queued, for at most 2 s; for servers that end without exit handlers.
        page: the ASGI application that answers at ``metrics_path``.
    """

    settings: ServiceSettings
    identity: Identity
    propagator: RequestPropagator
    log: Callable[[LogEvent], None]
    serving: Callable[[], object]
    following: Callable[[], object]
    working: Callable[[], object]
    flush: Callable[[], object]
    page: "Callable[[], AsgiApp]"

"""Sends snapshots of the registry to the collector, so that no scrape need be configured."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY
from prometheus_client.metrics_core import Metric

from heatshield.clock import Clock
from heatshield.counters import COUNTERS
from heatshield.export.answer import Unreachable
from heatshield.export.connection import Connection
from heatshield.metrics.families import OWN
from heatshield.metrics.otlp import Moment, encode
from heatshield.metrics.registry_guard import with_registry
from heatshield.names import OTLP_METRICS_PATH
from heatshield.settings import ServiceSettings

__all__ = ["LAST_S", "Push"]

LAST_S: Final = 1.0
"""Seconds that the snapshot at the end of a process may take: spans and logs go at the same
time."""

_HEADERS: Final = {"content-type": "application/x-protobuf"}


class Push:
    """Makes snapshots and sends them; used by one thread.

    A snapshot that does not arrive is not sent again: counts go from the start of the process, so
    the next one has them all.

    Args:
        settings: where to and for how long to wait.
        clock: for the time of a snapshot, and for when counting began: now.
        resource: what this process is.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        clock: Clock,
        resource: Callable[[], Mapping[str, str | int]],
    ) -> None:
        self._clock = clock
        self._resource = resource
        self._collect = _own if settings.user_key else REGISTRY.collect
        self._start_ns = clock.time_ns()
        self._fresh_ns = 0
        self._connection = Connection(
            settings.endpoint, settings.export_timeout_s, clock, settings.token
        )

    def send(self, timeout_s: float | None = None) -> None:
        """Send a snapshot."""
        now_ns = self._clock.time_ns()
        families = self._families()
        snapshot = encode(
            families, self._resource(), Moment(now_ns, self._start_ns, self._fresh_ns)
        )
        if snapshot.left_out:
            COUNTERS.drop("metric_families", snapshot.left_out)
        try:
            answer = self._connection.request(
                "POST",
                OTLP_METRICS_PATH,
                body=snapshot.body,
                headers=_HEADERS,
                timeout_s=timeout_s,
            )
        except Unreachable:
            COUNTERS.drop("metrics_unreachable")
            return
        if answer.ok:
            self._fresh_ns = now_ns
        else:
            COUNTERS.drop("metrics_refused")

    def _families(self) -> list[Metric]:
        try:
            return with_registry(lambda: list(self._collect()))
        except TimeoutError:  # the service is busy, and ours have no lock of its own
            return list(_own())

    def leave_to_parent(self) -> None:
        """In a child process: let go of the connection, which goes on being the parent's."""
        self._connection.leave_to_parent()

    def send_last(self) -> None:
        """Send the last snapshot, and close the connection."""
        self.send(LAST_S)
        self._connection.close()


def _own() -> Iterable[Metric]:
    """Metrics that have no user id in a label, as the service's own may."""
    for collector in (OWN, PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR):
        yield from collector.collect()

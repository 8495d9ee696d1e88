"""What heatshield dropped or swallowed, counted: the price of failing open is never hidden.

Counting is an integer addition; Prometheus' classes are built only for a scrape.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from heatshield.fork_locks import lock
from heatshield.names import INSTRUMENTATION_ERRORS, TELEMETRY_DROPPED

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["COUNTERS", "Counters", "fail_open"]

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class Counters:
    """Counts by cause. One of them lives in a process; threads may share it."""

    def __init__(self) -> None:
        self._lock = lock()
        self._dropped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()

    def drop(self, cause: str, records: int = 1) -> None:
        """Count spans or log records that will never arrive."""
        with self._lock:
            self._dropped[cause] += records

    def error(self, where: str) -> None:
        """Count an error of heatshield itself that the service did not get to see."""
        with self._lock:
            self._errors[where] += 1

    @property
    def dropped(self) -> dict[str, int]:
        """Records by cause."""
        with self._lock:
            return dict(self._dropped)

    @property
    def errors(self) -> dict[str, int]:
        """Swallowed errors by place."""
        with self._lock:
            return dict(self._errors)

    def after_fork(self) -> None:
        """Start anew in a child process."""
        self._dropped = Counter()
        self._errors = Counter()

    def collect(self) -> "Iterator[Metric]":
        """The metric families, as ``prometheus_client``'s registry asks for them."""
        from prometheus_client.core import CounterMetricFamily

        dropped = CounterMetricFamily(
            TELEMETRY_DROPPED,
            "Spans and log records that never left this process",
            labels=["cause"],
        )
        for cause, count in self.dropped.items():
            dropped.add_metric([cause], count)
        errors = CounterMetricFamily(
            INSTRUMENTATION_ERRORS, "Errors of heatshield that it swallowed", labels=["where"]
        )
        for where, count in self.errors.items():
            errors.add_metric([where], count)
        yield from (dropped, errors)


COUNTERS = Counters()
"""This process's."""


def fail_open(where: str, fallback: D) -> Callable[[Callable[P, T]], Callable[P, T | D]]:
    """Make a function return ``fallback`` and count where it would raise."""

    def decorate(function: Callable[P, T]) -> Callable[P, T | D]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> T | D:
            try:
                return function(*args, **kwargs)
            except Exception:  # noqa: BLE001  # nothing of heatshield may fail a service
                COUNTERS.error(where)
                return fallback

        return guarded

    return decorate

"""Local breakers, deadlines and retry budgets of outgoing calls, as families."""

import sys
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from heatshield import names
from heatshield.resilience.attempts import RETRIES
from heatshield.resilience.local_breaker import State

__all__ = ["downstream_families"]

_KEY = ("peer", "call", "caller")


def downstream_families() -> Iterator[Metric]:
    """The families; of local breakers only those that have opened, as there may be many."""
    module = sys.modules.get("heatshield.resilience.downstream")
    if module is None:  # no client library is instrumented
        return
    downstream = module.DOWNSTREAM
    states = GaugeMetricFamily(
        names.LOCAL_BREAKER_STATE, "1 for the state that it is in.", labels=(*_KEY, "state")
    )
    refused = CounterMetricFamily(
        names.LOCAL_BREAKER_REFUSED, "Calls that were not made.", labels=_KEY
    )
    for breaker in downstream.states():
        if breaker.opened:
            key = (breaker.peer, breaker.call, breaker.caller)
            for state in State:
                states.add_metric((*key, state.value), float(breaker.state is state))
            refused.add_metric(key, breaker.refused)
    yield states
    yield refused
    yield CounterMetricFamily(
        names.CALLS_NOT_STARTED, "Calls not made for want of time.", downstream.expired
    )
    retries = CounterMetricFamily(names.RETRIES, "Retries asked for.", labels=("outcome",))
    retries.add_metric(("allowed",), RETRIES.allowed)
    retries.add_metric(("refused",), RETRIES.refused)
    yield retries

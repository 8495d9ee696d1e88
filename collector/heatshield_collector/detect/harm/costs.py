"""How many times as much a piece of the user's work costs as one of the others'."""

from typing import Final

import numpy as np

from heatshield_collector.detect.harm.cases import CALL_PART
from heatshield_collector.detect.harm.recent import Floats
from heatshield_collector.detect.harm.significance import share_tail
from heatshield_collector.detect.harm.tables import Requests
from heatshield_collector.detect.harm.usual import Quantiles

__all__ = ["operation_cost_times", "request_cost_times"]

LEAST_COST_US: Final = 1_000.0
"""What a request costs at least, where the wait is guessed: a guess is not exact."""

LONGER: Final = 3.0
"""For each time that the user's requests take as long as the others': five thirds of it are as
good as five times the cost."""

TYPICAL: Final = 0.9
"""Part of the others' operations, the cheapest, that tells what one costs."""

LEAST_PIECE_S: Final = 20e-6
"""What an operation on a backend costs at least."""


def operation_cost_times(
    call: Floats, service_s: Floats, pieces: Floats, own: np.ndarray
) -> tuple[float, float]:
    """How many times as much one of the user's operations costs as one of the others', and chance.

    The others' costliest tenth is left out: a client that is slow to read an answer makes it look
    as if the backend had been slow to give it. But without its dear operations the others look
    cheap beside any user who has some; so it is asked, too, how likely that is.

    Args:
        call: of each operation.
        service_s: that the backend spent on it.
        pieces: operations that a row stands for; 0 for those that wait to be served.
        own: bool[n], which are the user's.

    Returns:
        How many times as much, and the probability of that by chance (:func:`share_tail`).
    """
    own_s = _mean_s(service_s, pieces, own)
    order = np.argsort(service_s[~own])
    spent_s, count = service_s[~own][order], pieces[~own][order]
    kept = np.cumsum(count) <= TYPICAL * count.sum()
    typical_s = max(_mean_s(spent_s, count, kept), LEAST_PIECE_S)
    mine = own & _mainly(call, service_s, own)
    return own_s / typical_s, share_tail(service_s, pieces, mine)


def _mainly(call: Floats, service_s: Floats, own: np.ndarray) -> np.ndarray:
    """Which rows are of a call that much of the user's time goes to."""
    _, of_row = np.unique(call, return_inverse=True)
    spent = np.bincount(of_row, weights=service_s * own)
    mainly: np.ndarray = spent >= CALL_PART * spent.sum()
    found: np.ndarray = mainly[of_row]
    return found


def _mean_s(spent_s: Floats, pieces: Floats, which: np.ndarray) -> float:
    return float(spent_s[which].sum()) / max(1.0, float(pieces[which].sum()))


def request_cost_times(requests: Requests, own: np.ndarray, usual: Quantiles) -> float | None:
    """How many times as much a request of the user's costs, by spans alone.

    A span does not tell the wait for a worker from the work. But all wait alike: what even
    the quickest quarter of the others' requests takes more than usual is the wait, and what
    is left of each is the work. Where they do not wait alike, it is enough that the user's
    requests take far longer than is usual for the call, and well longer than the others' now.
    """
    others = ~own & (requests.judged > 0)
    if not own.any() or not others.any():
        return None
    more = requests.us[others] - usual.p25_us[requests.call[others].astype(int)]
    wait_us = max(0.0, float(np.quantile(more, 0.25)))
    own_us, others_us = (
        max(LEAST_COST_US, float(requests.us[which].mean()) - wait_us) for which in (own, others)
    )
    known = own & (requests.judged > 0)
    times = requests.us[known] / usual.p95_us[requests.call[known].astype(int)]
    longer = float(requests.us[own].mean() / max(1.0, requests.us[others].mean()))
    far = float(times.mean()) if known.any() else 0.0
    return max(own_us / others_us, min(far, LONGER * longer))

"""The load averages of users and calls: charges in, costs per second out.

Loads are kept by user and call (what can be cut), by user over all calls, and by call (where the
cost arose: a backend's time counts there as the backend's). Each is a sketch a window and cost, so
memory does not grow with users. One lock guards the sketches and is held for a few milliseconds at
most, because threads that observe and threads that ask differ.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield_collector.detect.active_users import ActiveUsers
from heatshield_collector.detect.cost_windows import CostWindows
from heatshield_collector.detect.kept_baseline import decode, encode
from heatshield_collector.detect.sketch import LG_SLOTS, HeavyHitters, Hitter
from heatshield_collector.detect.windows import WINDOWS_S, WindowName
from heatshield_collector.link import Linked
from heatshield_collector.link.charge_sums import by_call
from heatshield_collector.link.reported import Reported

__all__ = ["COSTS", "Load", "LoadedCall", "Loads"]

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

COSTS: Final = {
    "busy": ("busy_us", 1e-6),
    "calls": ("calls", 1.0),
    "elements": ("elements", 1.0),
    "cpu": ("cpu_us", 1e-6),
    "backend": ("backend_us", 1e-6),
    "wait": ("wait_us", 1e-6),
}
"""Cost to the charges' column and to the size of its unit, in seconds or pieces. Busy is processor
time and time in backends. Spans do not tell waiting: their processor time has it in, and ``wait``
is of charge reports alone."""

KEYS_MOST: Final = 2**LG_SLOTS
"""No sketch has more keys."""

_KEPT: Final = tuple(cost for cost in COSTS if cost != "cpu")
"""Costs that sketches are kept of; processor time is what of busy time was not in backends."""

_OF_CALLS: Final = (*_KEPT, "errors")
"""What is known of a call: the costs, and its failures."""

_REFUSED: Final = {"refused busy": "busy", "refused calls": "calls"}
"""What is known of what does not count towards a trip: mostly calls that were refused."""


_NO_USER: Final = CallKey(DEFAULT_TENANT, None, "", "").text
_USER: Final = CallKey(DEFAULT_TENANT, "", "", "").text
"""The text of a user's key over all calls, as it begins."""


class Load(NamedTuple):
    """The load of a key: cost per second. For busy time that is busy seconds per second."""

    key: CallKey
    load: float
    lower: float
    upper: float


class LoadedCall(NamedTuple):
    """The load of a call by cost (:data:`COSTS`, and ``errors``), per second."""

    service: str
    call: str
    loads: dict[str, float]


class Loads:
    """Keeps the loads. Thread-safe."""

    def __init__(self) -> None:
        self._by_user_call = CostWindows([*_KEPT, *_REFUSED])
        self._by_user = CostWindows(_KEPT)
        self._by_call = CostWindows(_OF_CALLS)
        self._active = ActiveUsers()
        self._lock = threading.Lock()

    def observe(self, linked: Linked, now_s: float) -> None:
        """Take in a batch that was received at ``now_s``, monotonic seconds."""
        requests, calls = linked.requests, by_call(linked.charges)
        users = requests.column("user").to_pylist()
        eligible = requests.column("eligible").to_numpy()
        keys = requests.column("key").to_pylist()
        costs = {cost: requests.column(_column(cost)).to_numpy() for cost in _KEPT}
        self._add_users(keys, users, eligible, costs, now_s)
        costs = {cost: calls.column(_column(cost)).to_numpy() for cost in _OF_CALLS}
        with self._lock:
            self._by_call.add(calls.column("key").to_pylist(), costs, now_s)

    def report(self, reported: Reported, now_s: float) -> None:
        """Take in charge reports that were received at ``now_s``, monotonic seconds."""
        costs = {cost: reported.costs[_column(cost)] for cost in _KEPT}
        self._add_users(reported.keys, reported.users, reported.eligible, costs, now_s)
        costs = {cost: reported.call_costs[_column(cost)] for cost in _OF_CALLS}
        with self._lock:
            self._by_call.add(reported.call_keys, costs, now_s)

    def _add_users(
        self,
        keys: Sequence[str],
        users: Sequence[str | None],
        eligible: Booleans,
        costs: Mapping[str, Integers],
        now_s: float,
    ) -> None:
        refused = {name: np.where(eligible, 0, costs[of]) for name, of in _REFUSED.items()}
        # A user without a service is the user's over all; of no user there is one.
        texts = [_NO_USER if user is None else _USER + user for user in users]
        with self._lock:
            self._by_user_call.add(keys, {**costs, **refused}, now_s)
            fresh = self._by_user.add(texts, costs, now_s)
            self._active.add((text[len(_USER) :] for text in fresh if text != _NO_USER), now_s)

    def busy(self, window: WindowName, now_s: float) -> HeavyHitters:
        """Busy microseconds by the text of a user's key on a call; not to be changed."""
        with self._lock:
            return self._by_user_call.of("busy").window(window, now_s)

    def busy_most(self, window: WindowName, now_s: float) -> int:
        """No user has more busy microseconds than this on a call. Costs less than :meth:`busy`."""
        with self._lock:
            return self._by_user_call.of("busy").most(window, now_s)

    def load_of(self, key: CallKey, window: WindowName, now_s: float) -> Load:
        """The busy load of one user on one call, or on all calls of a service."""
        return _load(_bounds(self.busy(window, now_s), key), "busy", window)

    def baseline_of(self, key: CallKey, now_s: float) -> float:
        """Upper bound of a user's busy load on a call over the five minutes before."""
        with self._lock:
            sketch, covered_s = self._by_user_call.of("busy").baseline(now_s)
        return _bounds(sketch, key).upper / 1e6 / covered_s if covered_s else 0.0

    def covered_s(self, now_s: float) -> float:
        """Seconds that baselines speak of, five minutes at most."""
        with self._lock:
            return self._by_user_call.of("busy").covered_s(now_s)

    def state(self, now_s: float) -> bytes:
        """What baselines are made of, to be kept over a restart: one MiB at most, as a rule."""
        with self._lock:
            closed, covered = self._by_user_call.of("busy").closed(now_s)
        return encode(closed, covered)

    def restore(self, state: bytes, now_s: float) -> None:
        """Go on with the baselines of an earlier process; before anything is taken in.

        Raises:
            ValueError: if the state is damaged; then nothing has changed.
        """
        closed, covered = decode(state)
        with self._lock:
            self._by_user_call.of("busy").restore(closed, covered, now_s)

    def cost_per_call_of(self, key: CallKey, now_s: float) -> float:
        """Busy seconds of one call of a user that ran, over the last ten seconds; 0: none did.

        Refused calls cost nothing. Were they counted, the calls of a user who goes on calling would
        seem to cost less and less: pacing would let more through than its budget pays for, and
        demand would fall though just as much comes.
        """
        with self._lock:
            busy, calls, refused_busy, refused_calls = (
                _bounds(self._by_user_call.of(cost).window("10s", now_s), key).estimate
                for cost in ("busy", "calls", *_REFUSED)
            )
        return max(0, busy - refused_busy) / 1e6 / max(1, calls - refused_calls)

    def traffic_of(self, key: CallKey, now_s: float) -> float:
        """A user's part of the calls of an operation, or service, 0 to 1, over ten seconds."""
        whole = key._replace(user=None)
        with self._lock:
            own = _bounds(self._by_user_call.of("calls").window("10s", now_s), key).lower
            all_calls = _bounds(self._by_call.of("calls").window("10s", now_s), whole).upper
        return min(1.0, own / max(1, all_calls))

    def active_users(self) -> int:
        """About how many users there were in the last minutes."""
        with self._lock:
            return self._active.count()

    def top(
        self,
        cost: str,
        window: WindowName,
        limit: int,
        now_s: float,
        by: Literal["call", "user"] = "call",
    ) -> list[Load]:
        """The heaviest users by a cost over a window.

        Args:
            cost: one of :data:`COSTS`.
            window: over how long.
            limit: most rows.
            now_s: monotonic seconds.
            by: ``call`` for a row each (user, service, call), ``user`` for a row each user, whose
                key then has no service and no call.
        """
        windows = self._by_user_call if by == "call" else self._by_user
        with self._lock:
            if cost == "cpu":
                hitters = _computing(
                    windows.of("busy").window(window, now_s),
                    windows.of("backend").window(window, now_s),
                )[:limit]
            else:
                hitters = windows.of(cost).window(window, now_s).top(limit)
        return [_load(hitter, cost, window) for hitter in hitters]

    def surely_over(self, cost: str, window: WindowName, rate: float, now_s: float) -> list[Load]:
        """The users on a call whose lower bound is over so much a second, the heaviest first.

        Args:
            cost: one of :data:`COSTS`.
            window: over how long.
            rate: cost per second.
            now_s: monotonic seconds.
        """
        weight = max(1, int(rate * WINDOWS_S[window] / COSTS[cost][1]))
        with self._lock:
            hitters = self._by_user_call.of(cost).window(window, now_s).surely_over(weight)
        return [_load(hitter, cost, window) for hitter in hitters]

    def total(self, cost: str, window: WindowName, now_s: float) -> float:
        """The load of all users together, and of what no user is known of."""
        with self._lock:
            if cost == "cpu":
                busy, backend = (
                    self._by_user_call.of(one).window(window, now_s) for one in ("busy", "backend")
                )
                total = max(0, busy.total - backend.total)
            else:
                total = self._by_user_call.of(cost).window(window, now_s).total
        return total * COSTS[cost][1] / WINDOWS_S[window]

    def calls(self, window: WindowName, limit: int, now_s: float) -> list[LoadedCall]:
        """The busiest calls, and where these are few those that are called most often; backends'
        operations among them.
        """
        with self._lock:
            by_cost = {cost: self._by_call.of(cost).window(window, now_s) for cost in _OF_CALLS}
        seconds = WINDOWS_S[window]
        found = []
        top = [*by_cost["busy"].top(limit), *by_cost["calls"].top(limit)]
        for text in list(dict.fromkeys(hitter.key for hitter in top))[:limit]:
            key = CallKey.parse(text)
            loads = {
                cost: one.bounds(text).estimate * _unit(cost) / seconds
                for cost, one in by_cost.items()
            }
            loads["cpu"] = max(0.0, loads["busy"] - loads["backend"])
            found.append(LoadedCall(key.service, key.call, loads))
        return found


def _column(cost: str) -> str:
    return COSTS[cost][0] if cost in COSTS else cost


def _unit(cost: str) -> float:
    return COSTS[cost][1] if cost in COSTS else 1.0


def _computing(busy: HeavyHitters, backend: HeavyHitters) -> list[Hitter]:
    """Busy time less that in backends, the heaviest first; bounds hold what either may err by."""
    rows = []
    for key, estimate, lower, upper in busy.top(KEYS_MOST):
        there = backend.bounds(key)
        rows.append(
            Hitter(
                key,
                max(0, estimate - there.estimate),
                max(0, lower - there.upper),
                max(0, upper - there.lower),
            )
        )
    return sorted((row for row in rows if row.upper), key=lambda row: (-row.estimate, row.key))


def _bounds(sketch: HeavyHitters, key: CallKey) -> Hitter:
    """What a key weighs; one without a call stands for all calls of its service."""
    if key.call:
        return sketch.bounds(key.text)
    begins, ends = key._replace(user=None).text, key.user or ""
    return sketch.sum_of(
        key.text,
        lambda text: (
            text.endswith(ends)  # first, as few do: to read each of thousands takes long
            and text.startswith(begins)
            and CallKey.parse(text).user == key.user
        ),
    )


def _load(hitter: Hitter, cost: str, window: WindowName) -> Load:
    unit = COSTS[cost][1] / WINDOWS_S[window]
    return Load(
        CallKey.parse(hitter.key), hitter.estimate * unit, hitter.lower * unit, hitter.upper * unit
    )

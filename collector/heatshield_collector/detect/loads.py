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
import pyarrow as pa

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield_collector.detect.active_users import ActiveUsers
from heatshield_collector.detect.cost_windows import CostWindows
from heatshield_collector.detect.kept_baseline import decode, encode
from heatshield_collector.detect.sketch import HeavyHitters, Hitter
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

_CALL_COSTS: Final = {**COSTS, "errors": ("errors", 1.0)}
"""What is known of a call: the costs, and its failures."""

_ADMITTED: Final = {"admitted busy": "busy", "admitted calls": "calls"}
"""What is known of the calls that were let through."""


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
        self._by_user_call = CostWindows([*COSTS, *_ADMITTED])
        self._by_user = CostWindows(COSTS)
        self._by_call = CostWindows(_CALL_COSTS)
        self._active = ActiveUsers()
        self._lock = threading.Lock()

    def observe(self, linked: Linked, now_s: float) -> None:
        """Take in a batch that was received at ``now_s``, monotonic seconds."""
        requests, calls = linked.requests, by_call(linked.charges)
        users = requests.column("user").to_pylist()
        eligible = requests.column("eligible").to_numpy()
        keys = requests.column("key").to_pylist()
        self._add_users(keys, users, eligible, _columns(requests, COSTS), now_s)
        call_costs = _columns(calls, _CALL_COSTS)
        with self._lock:
            self._by_call.add(calls.column("key").to_pylist(), call_costs, now_s)

    def report(self, reported: Reported, now_s: float) -> None:
        """Take in charge reports that were received at ``now_s``, monotonic seconds."""
        costs = _named(reported.costs, COSTS)
        self._add_users(reported.keys, reported.users, reported.eligible, costs, now_s)
        call_costs = _named(reported.call_costs, _CALL_COSTS)
        with self._lock:
            self._by_call.add(reported.call_keys, call_costs, now_s)

    def _add_users(
        self,
        keys: Sequence[str],
        users: Sequence[str | None],
        eligible: Booleans,
        costs: Mapping[str, Integers],
        now_s: float,
    ) -> None:
        admitted = {name: np.where(eligible, costs[of], 0) for name, of in _ADMITTED.items()}
        # A user without a service is the user's over all; of no user there is one.
        texts = [_NO_USER if user is None else _USER + user for user in users]
        with self._lock:
            self._by_user_call.add(keys, {**costs, **admitted}, now_s)
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
            busy, calls = (
                _bounds(self._by_user_call.of(cost).window("10s", now_s), key) for cost in _ADMITTED
            )
        return busy.estimate / 1e6 / max(1, calls.estimate)

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
            total = self._by_user_call.of(cost).window(window, now_s).total
        return total * COSTS[cost][1] / WINDOWS_S[window]

    def calls(self, window: WindowName, limit: int, now_s: float) -> list[LoadedCall]:
        """The busiest calls; backends' operations among them."""
        with self._lock:
            by_cost = {cost: self._by_call.of(cost).window(window, now_s) for cost in _CALL_COSTS}
        seconds = WINDOWS_S[window]
        found = []
        for hitter in by_cost["busy"].top(limit):
            key = CallKey.parse(hitter.key)
            loads = {
                cost: one.bounds(hitter.key).estimate * _CALL_COSTS[cost][1] / seconds
                for cost, one in by_cost.items()
            }
            found.append(LoadedCall(key.service, key.call, loads))
        return found


def _columns(rows: pa.Table, costs: Mapping[str, tuple[str, float]]) -> dict[str, Integers]:
    return {cost: rows.column(name).to_numpy() for cost, (name, _) in costs.items()}


def _named(
    columns: Mapping[str, Integers], costs: Mapping[str, tuple[str, float]]
) -> dict[str, Integers]:
    return {cost: columns[name] for cost, (name, _) in costs.items()}


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

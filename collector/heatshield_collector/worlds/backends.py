"""Backends: Redis, which serves one operation after the other; databases; what stalls."""

import heapq
from collections import deque
from collections.abc import Callable

from heatshield_collector.worlds.engine import Engine

__all__ = ["Backend", "Places"]


class Backend:
    """Serves operations first come, first served, on so many servers.

    As the line is first come, first served and nothing leaves it, a moment's arrivals decide when
    each operation ends: the time at which each server is free is all that is kept.

    Args:
        engine: of the world.
        system: as ``db.system`` says it; empty: not instrumented, so nobody hears of its
            operations.
        address: host, or host:port.
        servers: operations that it serves at once; 1 for Redis.

    Attributes:
        factor: times the usual service time.
    """

    def __init__(self, engine: Engine, system: str, address: str, servers: int = 1) -> None:
        self.system = system
        self.address = address
        self.name = f"{system} {address}" if system else address
        self.factor = 1.0
        self._engine = engine
        self._free_s = [0.0] * servers

    def serve(self, seconds: float, done: Callable[[], None]) -> None:
        """Serve an operation that takes so long by itself; ``done`` is called at its end."""
        begin_s = max(self._engine.now_s, self._free_s[0])
        end_s = begin_s + seconds * self.factor
        heapq.heapreplace(self._free_s, end_s)
        self._engine.at(end_s, done)

    def stall(self, seconds: float) -> None:
        """Begin no operation for so long."""
        until_s = self._engine.now_s + seconds
        self._free_s = [max(until_s, free_s) for free_s in self._free_s]
        heapq.heapify(self._free_s)


class Places:
    """So many places, given first come, first served: workers, or connections of a pool.

    Args:
        count: places.
    """

    def __init__(self, count: int) -> None:
        self.free = count
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, then: Callable[[], None]) -> None:
        """Have ``then`` called with a place, now or later."""
        if self.free:
            self.free -= 1
            then()
        else:
            self._waiting.append(then)

    def give_back(self) -> None:
        """The next in line has it."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self.free += 1

"""Who has how much of each resource, and how the others fare there: cases for the rule.

A resource is a backend (one Redis, one database) or the processes of a service. A user may dominate
one process of many, or each of them a little; so the users of a service are judged over the
processes that they dominate, together.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np

from heatshield.call_key import SEPARATOR
from heatshield_collector.detect.harm.cases import Case, Crowded, Part, most_of
from heatshield_collector.detect.harm.costs import operation_cost_times, request_cost_times
from heatshield_collector.detect.harm.rates import UsualRate
from heatshield_collector.detect.harm.recent import Floats
from heatshield_collector.detect.harm.rule import HarmRule, Seen
from heatshield_collector.detect.harm.servers import ServersShown
from heatshield_collector.detect.harm.service_time import (
    Served,
    in_line,
    in_parallel,
    in_turn,
    waited_behind,
)
from heatshield_collector.detect.harm.tables import Computing, Operations, Requests, select
from heatshield_collector.detect.harm.usual import UsualShares
from heatshield_collector.detect.harm.work import Process, Work

__all__ = ["Contention"]

IN_LINE: Final = ("redis", "valkey", "keydb")
"""Backends that serve one operation after the other."""

CANDIDATES: Final = 2
"""Users of a resource that are looked at: with 30 % of it each there can hardly be more."""

WAITED_S: Final = 0.010
"""Where it is not known what is usual, only a wait of so long behind the user is harm."""

BEHIND: Final = 0.25
"""Part of its wait that a harmed operation spent behind the user's."""

LAG_S: Final = 0.05
"""An event loop that is so late is contended, however little the processor shows."""

REQUESTS_S: Final = 2.0
"""For how long requests of a user are counted: as long as harm must last to be lasting."""

SERVERS_MOST: Final = 2_000
"""Backends of which it is remembered how many operations they serve at once; the first to come."""

RESOURCES_MOST: Final = 2_000


class Contention:
    """Makes cases, and keeps what shares of each resource are usual.

    Args:
        work: of the last seconds.
        rule: for its window, and for how much a request may count.
    """

    def __init__(self, work: Work, rule: HarmRule) -> None:
        self._work = work
        self._rule = rule
        self._usual: dict[str, UsualShares] = defaultdict(UsualShares)
        self._servers: dict[int, ServersShown] = defaultdict(ServersShown)
        self._learnt_s = -1.0
        self._seconds: dict[str, dict[int, float]] = {}
        self._requests: dict[int, float] = {}
        self._rates: dict[str, UsualRate] = {}
        self._answered: dict[str, dict[int, float]] = {}

    def look(self, now_s: float) -> tuple[list[Case], list[Crowded]]:
        """The cases of this moment, and where many fare badly."""
        window_s = self._rule.window_s
        self._seconds = {}
        lately = self._work.requests(now_s, REQUESTS_S)
        self._requests = _sums(lately.user, lately.calls)
        requests = select(lately, lately.at_s > now_s - window_s)
        cases: list[Case] = []
        crowded: list[Crowded] = []
        operations = self._work.operations(now_s, window_s)
        for number in np.unique(operations.backend).astype(int).tolist():
            here = select(operations, operations.backend == number)
            crowded.append(self._crowded_backend(number, here))
            cases += self._backend(number, here, now_s)
        self._answered = self._answered_by_service(now_s)
        computing = self._work.computing(now_s, window_s)
        services = self._by_service(computing.process)
        for service, processes in services.items():
            asked = select(requests, np.isin(requests.process, processes))
            crowded.append(self._crowded_service(service, asked))
            used = select(computing, np.isin(computing.process, processes))
            cases += self._service(service, used, asked, now_s)
        return cases, crowded

    def learn(self, now_s: float, burning: dict[str, set[int]]) -> None:
        """Take in, once a second, what each user has of each resource.

        Args:
            now_s: monotonic seconds.
            burning: by resource the users whose part is not usual.
        """
        if now_s - self._learnt_s < self._rule.window_s:
            return
        self._learnt_s = now_s
        for resource in self._seconds.keys() - self._usual.keys():
            if len(self._usual) < RESOURCES_MOST:
                self._usual[resource] = UsualShares()
        for resource, usual in self._usual.items():
            spent = self._seconds.get(resource, {})
            usual.add(spent, self._rule.window_s, now_s, burning.get(resource, ()))
        for service in self._answered.keys() - self._rates.keys():
            if len(self._rates) < RESOURCES_MOST:
                self._rates[service] = UsualRate()
        for service, rate in self._rates.items():
            answered = math.fsum(self._answered.get(service, {}).values())
            rate.add(answered, self._rule.window_s, now_s)

    # -- backends ----------------------------------------------------------------------------------

    def _backend(self, number: int, rows: Operations, now_s: float) -> Iterator[Case]:
        name = self._work.numbers.backends.name(number)
        is_line = name.startswith(IN_LINE)
        served = self._served(number, rows, now_s, is_line=is_line)
        from_s = now_s - self._rule.window_s
        # What was served before the window is not in it.
        begin_s = served.begin_s
        inside = np.clip((rows.end_s - from_s) / np.maximum(rows.end_s - begin_s, 1e-9), 0.0, 1.0)
        service_s = served.service_s * inside
        # What still waits in line has cost nothing yet.
        pieces = np.where((rows.running > 0) & (served.service_s <= 0), 0.0, rows.operations)
        part = Part(rows.user, rows.call, rows.request, service_s)
        by_user = part.by_user()
        self._seconds[name] = by_user
        busy_s = float(service_s.sum())
        for user in self._candidates(by_user, busy_s):
            own = rows.user == user
            waited = rows.slow > 0
            if is_line:
                behind = waited_behind(served, rows.start_s, own)
                wait_s = served.begin_s - rows.start_s
                took_s = rows.end_s - rows.start_s
                waited = np.where(
                    rows.judged > 0, waited & (behind >= BEHIND * wait_s) & (behind > 0),
                    (behind >= WAITED_S) & (behind >= took_s / 2),
                )  # fmt: skip
            # Of what runs and has not waited long it is not known yet how it will fare.
            told = ~own & ((rows.running == 0) | waited)
            slow = told & waited
            mine = part.of(user)
            cost = operation_cost_times(rows.call, service_s, pieces, own)
            # The user's own that wait behind each other are as many as those served; where all
            # wait, everybody has some.
            is_cause = cost[1] <= self._rule.cost_tail
            waiting = int(rows.operations[own & (pieces == 0)].sum()) if is_cause else 0
            lately = rows.end_s > now_s - self._rule.window_s / 2
            yield Case(
                resource=name,
                kind="backend",
                user=user,
                calls=mine.calls(),
                seen=self._seen(
                    name, user, busy_s, mine,
                    pieces=int(rows.operations[own].sum()),
                    other_pieces=int(rows.operations[~own].sum()),
                    others=(rows.operations, told, lately),
                    slow=slow,
                    now_s=now_s,
                    clipped=partial(_clipped, mine, waiting),
                    cost=cost,
                ),
                requests=int(self._requests.get(user, 0)),
                who=most_of(rows.user[slow], rows.operations[slow]),
                where=most_of(rows.call[slow], rows.operations[slow]),
            )  # fmt: skip

    def _served(self, number: int, rows: Operations, now_s: float, *, is_line: bool) -> Served:
        if is_line:
            return in_line(rows.start_s, rows.end_s)
        begin_s = rows.start_s
        if number < SERVERS_MOST:
            shown = self._servers[number]
            shown.look(rows.start_s, rows.end_s, rows.running, now_s)
            if shown.most is not None and rows.slow.any():  # else nobody waits to speak of
                begin_s = in_turn(rows.start_s, rows.end_s, shown.most)
        return in_parallel(begin_s, rows.end_s)

    def _crowded_backend(self, number: int, rows: Operations) -> Crowded:
        told = (rows.judged > 0) & (rows.user >= -2)  # noqa: PLR2004 - the rest, too
        slow = told & (rows.slow > 0)
        return Crowded(
            self._work.numbers.backends.name(number),
            "backend",
            number,
            int(rows.operations[told].sum()),
            int(rows.operations[slow].sum()),
            most_of(rows.call[slow], rows.operations[slow]),
        )

    # -- processes ---------------------------------------------------------------------------------

    def _by_service(self, processes: Floats) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for process in np.unique(processes).tolist():
            service = self._work.numbers.processes.name(int(process)).partition(SEPARATOR)[0]
            found.setdefault(service, []).append(process)
        return found

    def _answered_by_service(self, now_s: float) -> dict[str, dict[int, float]]:
        """Calls that ended in the window, by service and user."""
        process, user, calls = self._work.answered(now_s, self._rule.window_s)
        found: dict[str, dict[int, float]] = {}
        for service, processes in self._by_service(process).items():
            here = np.isin(process, processes)
            found[service] = _sums(user[here], calls[here])
        return found

    def _others_served(self, service: str, user: int, now_s: float) -> tuple[float, float]:
        """How many requests of others are usual in the window, and how many there were."""
        rate = self._rates.get(service)
        answered = self._answered.get(service, {})
        served = math.fsum(answered.values()) - answered.get(user, 0.0)
        return (rate.usual(now_s) if rate else 0.0) * self._rule.window_s, served

    def _service(
        self, service: str, rows: Computing, requests: Requests, now_s: float
    ) -> Iterator[Case]:
        service_s = self._computed(rows, now_s)
        part = Part(rows.user, rows.call, rows.request, service_s)
        self._seconds[service] = part.by_user()
        dominated: dict[int, list[float]] = defaultdict(list)
        for process in np.unique(rows.process).tolist():
            here = rows.process == process
            busy_s = float(service_s[here].sum())
            if not self._is_contended(int(process), busy_s, rows, here):
                continue
            local = Part(rows.user[here], rows.call[here], rows.request[here], service_s[here])
            for user in self._candidates(local.by_user(), busy_s):
                dominated[user].append(process)
        for user, processes in dominated.items():
            there = np.isin(rows.process, processes)
            here_too = select(requests, np.isin(requests.process, processes))
            yield self._process_case(
                service, user, select(rows, there), service_s[there], here_too, now_s
            )

    def _process_case(
        self, service: str, user: int, rows: Computing, service_s: Floats, requests: Requests,
        now_s: float,
    ) -> Case:  # fmt: skip
        own = rows.user == user
        mine = Part(rows.user[own], rows.call[own], rows.request[own], service_s[own])
        by_span = own & (rows.is_cpu == 0)
        spans = Part(
            rows.user[by_span], rows.call[by_span], rows.request[by_span], service_s[by_span]
        )
        processes = np.unique(rows.process)
        told = (requests.user != user) & (requests.judged > 0)
        slow = told & (requests.slow > 0)
        late = self._work.late(processes, now_s, self._rule.window_s)
        others = requests.user != user
        pieces = max(_pieces(rows, own), int(requests.calls[~others].sum()))
        return Case(
            resource=service,
            kind="process",
            user=user,
            calls=mine.calls(),
            seen=self._seen(
                service, user, float(service_s.sum()), mine,
                pieces=pieces,
                other_pieces=max(_pieces(rows, ~own), int(requests.calls[others].sum())),
                others=(requests.calls, told, requests.at_s > now_s - self._rule.window_s / 2),
                slow=slow,
                now_s=now_s,
                cost=(None if (own & ~by_span).any() else request_cost_times(
                    requests, ~others, self._work.by_call.quantiles(now_s)
                ), 0.0),
                answered=self._others_served(service, user, now_s),
                late=late,
                # Reports tell the sum of a user's requests, and how many these are.
                clipped=lambda most_s: min(
                    spans.clipped(most_s) + float(service_s[own & ~by_span].sum()), pieces * most_s
                ),
            ),
            requests=int(self._requests.get(user, 0)),
            processes=tuple(processes.astype(int).tolist()),
            who=most_of(requests.user[slow], requests.calls[slow]),
            where=most_of(requests.call[slow], requests.calls[slow]),
        )  # fmt: skip

    def _computed(self, rows: Computing, now_s: float) -> Floats:
        """Service seconds of each row in the window."""
        from_s = now_s - self._rule.window_s
        length_s = np.maximum(rows.end_s - rows.start_s, 1e-9)
        inside = np.clip((rows.end_s - from_s) / length_s, 0.0, 1.0)
        spent_s = rows.us / 1e6
        # Threads that wait for each other are all at work by their spans: together they had no
        # more of the process than there is.
        for process in np.unique(rows.process[rows.is_cpu == 0]).tolist():
            here = (rows.process == process) & (rows.is_cpu == 0)
            weight = np.clip(spent_s[here] / length_s[here], 0.0, 1.0)
            spent_s[here] = in_parallel(rows.start_s[here], rows.end_s[here], weight).service_s
        computed: Floats = spent_s * inside
        return computed

    def _is_contended(self, process: int, busy_s: float, rows: Computing, here: np.ndarray) -> bool:
        """Whether a process is so busy that its work can make others wait."""
        state: Process | None = self._work.states.get(process)
        if busy_s < self._rule.busy_s:
            return False
        if state is None or not rows.is_cpu[here].any():
            return True
        use = busy_s / self._rule.window_s / min(state.processors, max(1.0, state.busy))
        return use >= self._rule.utilisation or state.loop_lag_s >= LAG_S or state.queued > 0

    def _crowded_service(self, service: str, requests: Requests) -> Crowded:
        told = requests.judged > 0
        slow = told & (requests.slow > 0)
        return Crowded(
            service,
            "process",
            -1,
            int(requests.calls[told].sum()),
            int(requests.calls[slow].sum()),
            most_of(requests.call[slow], requests.calls[slow]),
        )

    # -- both --------------------------------------------------------------------------------------

    def _candidates(self, by_user: dict[int, float], busy_s: float) -> list[int]:
        if busy_s < self._rule.busy_s:
            return []
        named = [(spent, user) for user, spent in by_user.items() if user >= 0]
        heaviest = sorted(named, reverse=True)[:CANDIDATES]
        return [user for spent, user in heaviest if spent >= self._rule.share * busy_s]

    def _seen(  # noqa: PLR0913 - what the rule looks at
        self, resource: str, user: int, busy_s: float, mine: Part, *, pieces: int,
        other_pieces: int, others: tuple[Floats, np.ndarray, np.ndarray], slow: np.ndarray,
        now_s: float, clipped: Callable[[float], float] | None = None,
        cost: tuple[float | None, float] = (None, 0.0),
        answered: tuple[float, float] = (0.0, 0.0), late: float = 0.0,
    ) -> Seen:  # fmt: skip
        piece_s = self._rule.share * busy_s / self._rule.pieces
        clipped_s = (clipped or mine.clipped)(piece_s)
        own_s = float(mine.service_s.sum())
        usual = self._usual[resource].usual(user, now_s) if resource in self._usual else None
        share, load = usual if usual is not None else (None, None)
        weights, told, lately = others
        count = int(weights[told].sum())
        return Seen(
            busy_s, own_s, clipped_s, pieces, other_pieces, share, load,
            others=count,
            # Who asks while a loop is late waits, and the loop sees nothing of it.
            harmed=max(int(weights[slow].sum()), int(late * count)),
            others_lately=int(weights[told & lately].sum()),
            harmed_lately=int(weights[slow & lately].sum()),
            told_cost_times=cost[0],
            chance=cost[1],
            expected=answered[0],
            served=answered[1],
        )  # fmt: skip


def _clipped(mine: Part, waiting: int, most_s: float) -> float:
    """The user's service seconds, no request counting more than ``most_s``, nor one that waits."""
    return min(float(mine.service_s.sum()), mine.clipped(most_s) + waiting * most_s)


def _sums(users: Floats, weights: Floats) -> dict[int, float]:
    unique, of_row = np.unique(users, return_inverse=True)
    sums = np.bincount(of_row, weights=weights)
    return dict(zip(unique.astype(int).tolist(), sums.tolist(), strict=True))


def _pieces(rows: Computing, which: np.ndarray) -> int:
    """How many requests these rows are of."""
    by_clock = which & (rows.is_cpu > 0)
    spans = len(np.unique(rows.request[which & (rows.is_cpu == 0)]))
    if not by_clock.any():
        return spans
    return spans + int(max(rows.began[by_clock].sum(), rows.open[by_clock].max()))

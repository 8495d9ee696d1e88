"""Which states are the same: those that differ in names and in the time of day alone.

Times count from the state's own now, and what is further back than anything looks is equally far
back. Versions count from the server's, entries by the order in which they are met.
"""

from collections.abc import Mapping
from typing import Any

from breaker_model.ledger import content
from breaker_model.world import CLIENTS, KEYS, Client, World
from heatshield.contract import BreakerEntry, Delta, Snapshot, StateVersion
from heatshield_alerts.held_breaker import HeldBreaker

__all__ = ["canonical"]

_FAR_S = 700.0
_CLIENT_FAR_S = 60.0


def canonical(world: World) -> int:
    """A number that two states share if they are the same, and no others for all practical ends."""
    return hash(_Canonical(world).whole())


class _Canonical:
    def __init__(self, world: World) -> None:
        self._world = world
        self._now = world.now
        self._at = world.control.at
        self._ids: dict[str, int] = {}

    def whole(self) -> tuple[Any, ...]:
        world = self._world
        return (
            self._server(),
            *(self._client(c) for c in CLIENTS),
            self._ledger(),
            tuple(sorted(world.hot)),
            world.rules_work,
            (world.crashes, world.stalls),
            world.caps.entries,
        )

    def _time(self, at_s: float | None, far_s: float = _FAR_S) -> float | None:
        return None if at_s is None else round(max(-far_s, at_s - self._now), 3)

    def _version(self, at: StateVersion | None) -> tuple[int, int] | None:
        if at is None:
            return None
        same = at.epoch == self._at.epoch
        return at.epoch - self._at.epoch, at.version - self._at.version if same else at.version

    def _id(self, entry_id: str) -> int:
        return self._ids.setdefault(entry_id, len(self._ids))

    def _entry(self, entry: BreakerEntry) -> tuple[Any, ...]:
        return self._id(entry.id), *content(entry)[1:]

    def _server(self) -> tuple[Any, ...]:
        world, control = self._world, self._world.control
        restraint = control.checks.restraint
        held = {row.key: row for row in control.held}
        instances = control.instances._known.values()
        kept = () if world.kept[0] is control else self._all_held(world.kept[0])
        return (
            control.mode,
            tuple(None if key not in held else self._held(held[key]) for key in KEYS),
            kept,
            self._times(restraint._moves),
            self._times(restraint._openings),
            tuple(
                (key, self._time(at)) for key, at in sorted(restraint._held_down_until_s.items())
            ),
            tuple(self._time(at, 61.0) for at in restraint._opened_s),
            tuple(sorted((one.instance, self._time(one.seen_s, 31.0)) for one in instances)),
            tuple(
                (key, one.instance, self._time(one.over_s))
                for key, one in control._probers._turns.items()
            ),
            self._time(control._probers._quiet_until_s),
            self._history(),
        )

    def _all_held(self, control: Any) -> tuple[Any, ...]:
        return tuple(self._held(row) for row in control.held)

    def _held(self, row: HeldBreaker) -> tuple[Any, ...]:
        draft, demand = row.draft, row.demand
        return (
            self._entry(row.entry),
            draft.mode,
            draft.then,
            draft.first,
            draft.issuer,
            row.state,
            self._time(row.since_s),
            self._time(row.granted_s),
            row.hold_s,
            row.cool_s,
            self._time(row.rule_s),
            self._time(demand.low_since_s),
            self._time(demand.since_s, 15.0),
            tuple((self._time(at), count) for at, count in demand._rejected),
        )

    def _times(self, times: Mapping[Any, Any]) -> tuple[Any, ...]:
        return tuple(
            (key, tuple(self._time(at) for at in times[key])) for key in KEYS if key in times
        )

    def _history(self) -> tuple[Any, ...]:
        """The versions that a message may still lead on from."""
        streams = [one.stream[1] for one in self._world.clients if one.stream is not None]
        bases = [at.version for at in streams if at is not None and at.epoch == self._at.epoch]
        base = min(bases, default=self._at.version)
        return tuple(
            (one.version - self._at.version, self._id(one.entry_id or ""), one.is_new)
            for one in self._world.control._history._touches
            if one.version > base
        )

    def _client(self, c: int) -> tuple[Any, ...]:
        world, client = self._world, self._world.clients[c]
        table, stream = client.table, client.stream
        rows, number = client.rows
        service = table._service
        counted = world.numbers._counted.get((service, client.name), 0)
        return (
            client.name,
            self._version(table.at),
            table.mode,
            self._time(table._anchor, _CLIENT_FAR_S),
            tuple(sorted(self._entry(one) for one in table.entries)),
            None
            if stream is None
            else (self._time(stream[0], _CLIENT_FAR_S), self._version(stream[1])),
            self._time(client.anchor, _CLIENT_FAR_S),
            (len(rows), number - counted),
            self._tallies(client),
            tuple(self._message(one) for one in world.down[c]),
            tuple(
                (
                    one.instance,
                    self._version(one.applied),
                    one.number - counted,
                    tuple((self._id(row.id), row.count) for row in one.rejected),
                )
                for one in world.up[c]
            ),
        )

    def _tallies(self, client: Client) -> tuple[Any, ...]:
        found = []
        for entry_id, tally in client.table._tallies._by_id.items():
            pacer = tally.pacer
            line = None
            if pacer is not None:
                line = self._time(pacer._meter.paid_at, 1.0), tuple(map(self._time, pacer._turns))
            filled = self._time(tally.filled_at, 2.0)
            found.append((self._id(entry_id), tally.rejected, tally.tokens, filled, line))
        return tuple(found)

    def _message(self, message: Any) -> tuple[Any, ...]:
        change, sent = message.change, self._time(message.sent_at, _CLIENT_FAR_S)
        if isinstance(change, StateVersion):
            return self._version(change), sent
        if isinstance(change, Snapshot):
            entries = tuple(map(self._entry, change.entries))
            return self._version(change.at), sent, change.mode, entries
        assert isinstance(change, Delta)
        return (
            self._version(change.base),
            self._version(change.at),
            change.mode,
            tuple(map(self._entry, change.upsert)),
            tuple(map(self._id, change.remove)),
        )

    def _ledger(self) -> tuple[Any, ...]:
        ledger = self._world.ledger
        return (
            tuple(
                sorted(
                    (key, mode, self._time(at, _CLIENT_FAR_S))
                    for (key, mode), at in ledger.granted_s.items()
                )
            ),
            tuple(self._time(ledger.answered_s.get(c), _CLIENT_FAR_S) for c in CLIENTS),
            tuple(
                (key, self._time(ledger.cleared_s[key])) for key in KEYS if key in ledger.cleared_s
            ),
            self._times(ledger.moves),
            tuple((key, self._time(ledger.ended_s[key])) for key in KEYS if key in ledger.ended_s),
            tuple(self._time(at, 61.0) for at in ledger.opened_s),
            tuple(
                (self._time(one.at_s, 1.0), one.key, one.client, one.quota_per_s)
                for one in ledger.probes
                if self._now - one.at_s < 1.0
            ),
            self._time(ledger.worked_s, _CLIENT_FAR_S),
        )

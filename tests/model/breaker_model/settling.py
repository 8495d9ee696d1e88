"""Invariants about what becomes of a state once all is quiet and connected."""

from breaker_model.world import CLIENTS, KEYS, Message, World, set_chance
from heatshield.breakers.decision import Reason
from heatshield.breakers.lease_table import Applied
from heatshield.contract import HEARTBEAT_S, BreakerMode, Delta, PlatformMode, StateVersion
from heatshield_alerts import restraint

__all__ = ["unsettled"]

AGREE_S = 5.0
CLOSE_S = 60.0
"""Refused calls count for 15 s; then 10 s of low demand, then 6 s of probing; or, at the end of a
person's entry, its lease. A key that flapped is held for longer: until its moves lie ten minutes
back."""

STEP_S = 0.25
_LETS_THROUGH = 0.999
REPORT_S = 1.0


def unsettled(world: World, *, closes: bool) -> str | None:
    """5: quiet and connected, all agree within 5 s; 15: demand gone, all is closed in the end.

    Args:
        world: a state, which stays as it is.
        closes: let a minute pass, and ask whether all is closed.
    """
    world = world.fork()
    world.hot, world.rules_work = frozenset(), True
    for c in CLIENTS:
        world.connect(c)
    rest = _Rest(world)
    set_chance(_LETS_THROUGH)  # what is no longer leased is not enforced
    try:
        rest.run(AGREE_S)
        trouble = _disagreement(world)
        if trouble is None and closes:
            rest.run(CLOSE_S)
            rest.run_until_closed(restraint.MOVES_WINDOW_S)
            trouble = _disagreement(world) or _still_held(world)
        return trouble
    finally:
        set_chance(0.0)


class _Rest:
    """Lets time pass as it does where nothing is lost."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = 0
        self.renewed_s = dict.fromkeys(CLIENTS, float("-inf"))  # due as soon as it is connected

    def run_until_closed(self, most_s: float) -> None:
        """Go on while anything is held, and until all have heard of its end."""
        end_s = self.world.now + most_s
        while self.world.control.held and self.world.now < end_s:
            self.run(AGREE_S)

    def run(self, seconds: float) -> None:
        """Rounds every 250 ms, reports every second, heartbeats every two, renewals as due."""
        world = self.world
        for _ in range(round(seconds / STEP_S)):
            self.steps += 1
            world.now += STEP_S
            world.round()
            for c in CLIENTS:
                stream = world.clients[c].stream
                is_beat = self.steps * STEP_S % HEARTBEAT_S == 0
                if is_beat or (stream is not None and stream[1] != world.control.at):
                    self._push(c)
                if world.now - self.renewed_s[c] >= world.clients[c].table.renew_every_s:
                    self._renew(c)
                if self.steps * STEP_S % REPORT_S == 0:
                    world.arrive(c, world.report(c), answered=True)

    def _push(self, c: int) -> None:
        world = self.world
        world.push(c)
        message = world.down[c][-1]
        self._deliver(c, message)

    def _deliver(self, c: int, message: Message) -> None:
        world = self.world
        applied = world.deliver(c, message)
        held = world.clients[c].table.at
        change = message.change
        ahead = isinstance(change, StateVersion) and (held is None or change > held)
        if ahead or (isinstance(change, Delta) and applied is Applied.GAP):
            self._renew(c)

    def _renew(self, c: int) -> None:
        self.world.renew(c)
        self.world.deliver(c, self.world.down[c][-1])
        self.renewed_s[c] = self.world.now


def _disagreement(world: World) -> str | None:
    control = world.control
    entries = {row.entry.id: row.entry for row in control.held}
    for c, client in enumerate(world.clients):
        table = client.table
        if table.at != control.at or table.mode is not control.mode:
            return f"quiet_means_agreed: client {c} is at {table.at}, the server at {control.at}"
        if {one.id: one for one in table.entries} != entries:
            return f"quiet_means_agreed: client {c} holds other entries than the server"
        for key in KEYS:
            entry = next((one for one in table.entries if one.key == key), None)
            decision = world.draw(c, key.user or "", key.call)
            refuses = entry is not None and entry.mode is BreakerMode.REJECT
            if refuses and control.mode is PlatformMode.PROTECT:
                if decision.reason not in (Reason.REJECTED, Reason.PROBED):
                    return f"quiet_means_agreed: client {c} lets {key.user} through"
            elif entry is None and decision.reason is not Reason.CLEAR:
                return f"quiet_means_agreed: client {c} still knows of {key.user}"
    return None


def _still_held(world: World) -> str | None:
    if world.control.held:
        row = world.control.held[0]
        return f"gone_means_closed: {row.key.user} is still {row.state}, and nobody asks for it"
    return None

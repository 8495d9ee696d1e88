"""Whatever comes, whatever gets lost: a meter lets no more through, and shares are one whole."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from heatshield.breakers.limits import Limits
from heatshield.breakers.meter import Meter
from heatshield.contract import SHARE_S, DeclaredLimit, Report
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_alerts.shares import Dealer

RATES = st.floats(0.01, 1_000)
STEPS = st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 5)), max_size=60)
KEY = "x\x1fu"


@given(RATES, st.floats(0, 100), STEPS)
def test_a_meter_lets_no_more_through_than_rate_and_burst(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    meter, now, spent = Meter(rate), 0.0, 0.0
    for pause_s, units in steps:
        now += pause_s
        if units <= burst and meter.delay_s(now, burst - units) == 0:
            meter.spend(units, now)
            spent += units
    assert spent <= rate * now + burst + 1e-6 * (1 + spent)


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 50)), min_size=1, max_size=40))
def test_nor_does_one_whose_rate_changes(steps: list[tuple[float, float]]) -> None:
    meter, now, allowed, spent, burst = Meter(1.0), 0.0, 0.0, 0.0, 3.0
    for pause_s, rate in steps:
        now += pause_s
        allowed += pause_s * meter.rate
        while meter.delay_s(now, burst - 1) == 0 and spent < 10_000:
            meter.spend(1.0, now)
            spent += 1
        meter.change_rate(rate, now)
    assert spent <= allowed + burst + 1e-6 * (1 + spent)


@dataclass
class Client:
    """An instance as the dealer can't see it: what it really goes by."""

    limits: Limits
    turn: int = 0
    sent: list[tuple[float, Report]] = field(default_factory=list)
    share: float = 0.0
    until: float = float("-inf")

    def spends(self, count: int, now: float) -> float:
        """Of the whole, for sure: what was dealt, and an equal part of it where that has ended."""
        if now < self.until:
            return self.share
        return min(self.share, 1 / count) if now < self.until + SHARE_S else 0.0


ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 2),  # which instance
        st.sampled_from([0.01, 0.25, 0.25, 2.0, 3.5]),  # time that passes
        st.sampled_from([0, 0, 100, 400]),  # calls that come
        st.sampled_from(["arrives", "arrives", "report lost", "answer lost", "twice", "late"]),
    ),
    min_size=4,
    max_size=30,
)


@given(ACTIONS)
def test_shares_are_never_more_than_the_whole(
    actions: list[tuple[int, float, int, str]],
) -> None:
    count = 3
    limit = DeclaredLimit("x", LimitPer.USER, LimitUnit.REQUESTS, 100.0, instances=count)
    clients = [Client(Limits([limit], "s")) for _ in range(count)]
    members = frozenset(f"i-{number}" for number in range(count))
    dealer, now = Dealer(), 0.0
    for number, pause_s, calls, fate in actions:
        now += pause_s
        client = clients[number]
        for _ in range(calls):
            client.limits.decide("u", "GET /p", now)
        offered = tuple(client.limits.offered(0.25))
        if not offered:
            continue
        client.turn += 1
        report = Report("s", f"i-{number}", 1, None, offered=offered, turn=client.turn)
        if fate == "report lost":
            client.sent.append((now, report))
            continue
        shares = dealer.deal(report, {}, {"x": 100.0}, members, now)
        if fate == "twice":
            again = dealer.deal(report, {}, {"x": 100.0}, members, now)
            assert again == {}
        if fate == "late" and client.sent:  # an older one arrives now, and nobody takes its answer
            dealer.deal(client.sent.pop()[1], {}, {"x": 100.0}, members, now)
        if fate != "answer lost" and KEY in shares:
            client.limits.deal(shares, now + SHARE_S, now)
            client.share, client.until = shares[KEY], now + SHARE_S
        assert sum(one.spends(count, now) for one in clients) <= 1 + 1e-9

"""The dealer of shares, told of more budgets than there can be."""

from heatshield.call_key import SEPARATOR
from heatshield.contract import Offered, Report
from heatshield_alerts import shares
from heatshield_alerts.shares import FORGET_S, Dealer


def told(names, turn):
    offered = tuple(Offered(f"buys{SEPARATOR}{name}", 5.0) for name in names)
    return Report("shop", "i-1", 1, None, offered=offered, turn=turn)


def test_names_that_are_made_up_fill_so_much_memory_and_no_more(monkeypatch):
    monkeypatch.setattr(shares, "MAX_BUDGETS", 10)
    dealer = Dealer()
    dealt = dealer.deal(told(range(30), 1), {}, {"buys": 10.0}, {"i-1"}, 0.0)
    assert len(dealt) == 10
    assert len(dealer._budgets) == 10
    known = dealer.deal(told(range(3), 2), {}, {"buys": 10.0}, {"i-1"}, 1.0)
    assert len(known) == 3, "those that are there are dealt on"
    dealer.forget(2 * FORGET_S)
    assert dealer.deal(told(["late"], 3), {}, {"buys": 10.0}, {"i-1"}, 2 * FORGET_S)

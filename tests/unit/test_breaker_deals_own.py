"""A service reports what came of the budgets by which it paces, and of no others."""

from heatshield.breakers.lease_table import BreakerTable
from heatshield.contract import BreakerEntry, BreakerMode, PlatformMode, Snapshot, StateVersion


def holding(service):
    paced = BreakerEntry(
        "b-1", "u-1", "shop", "buy", BreakerMode.PACE, issuer="rule:HarmfulUser", budget=0.1
    )
    table = BreakerTable(service)
    other = BreakerEntry("b-2", "u-2", "talk", "say", issuer="rule:HarmfulUser")
    table.apply(Snapshot(StateVersion(1, 1), PlatformMode.PROTECT, (paced, other)), 0.0)
    return table


def test_a_service_that_paces_reports_what_came_also_where_nothing_did():
    table = holding("shop")
    assert table.deals
    assert [(row.budget, row.per_s) for row in table.offered(1.0)] == [("b-1", 0.0)]


def test_one_whose_entries_pace_nobody_reports_no_budget():
    """Else one paced user would have every instance of the platform report four times a second."""
    table = holding("talk")
    assert not table.deals
    assert table.offered(1.0) == ()

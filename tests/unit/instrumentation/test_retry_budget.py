"""Retry budgets: a fifth of the requests, ten a second on top, forgotten after ten seconds."""

from heatshield.resilience.retry_budget import MOST_BUDGETS, Budgets, RetryBudget

NOW = 1_000.0
RESERVE = 100


def withdrawals(budget, now):
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_new_one_has_its_reserve_and_no_more():
    budget = RetryBudget()
    assert budget.balance(NOW) == RESERVE
    assert withdrawals(budget, NOW) == RESERVE
    assert budget.balance(NOW) == 0


def test_five_first_attempts_pay_for_one_retry():
    budget = RetryBudget(reserve_per_s=0)
    for _ in range(4):
        budget.deposit(NOW)
    assert not budget.withdraw(NOW)
    budget.deposit(NOW)
    assert budget.withdraw(NOW)
    assert not budget.withdraw(NOW)


def test_many_deposits_lose_nothing_by_rounding():
    budget = RetryBudget(reserve_per_s=0)
    for _ in range(5_000):
        budget.deposit(NOW)
    assert withdrawals(budget, NOW) == 1_000


def test_deposits_are_forgotten():
    budget = RetryBudget(reserve_per_s=0)
    for _ in range(50):
        budget.deposit(NOW)
    assert budget.balance(NOW + 10) == 10
    assert budget.balance(NOW + 11) == 0


def test_withdrawals_are_forgotten_too_so_the_reserve_comes_back():
    budget = RetryBudget()
    assert withdrawals(budget, NOW) == RESERVE
    assert withdrawals(budget, NOW + 10) == 0
    assert withdrawals(budget, NOW + 11) == RESERVE


def test_in_no_ten_seconds_are_more_allowed_than_the_share_and_the_reserve():
    """A peer that fails everything, 200 first attempts a second, each to be retried twice."""
    budget = RetryBudget()
    retries = []
    for tick in range(60 * 200):
        now = NOW + tick / 200
        budget.deposit(now)
        retries += [now for _ in range(2) if budget.withdraw(now)]
    for second in range(12, 60):
        end = NOW + second
        recent = sum(end - 10 < at <= end for at in retries)
        assert recent <= RESERVE + 0.2 * 200 * 11 + 1
    assert len(retries) > 60 * 200 * 0.2


def test_names_have_budgets_of_their_own_and_there_are_only_so_many():
    budgets = Budgets()
    assert withdrawals(budgets.of("shop"), NOW) == RESERVE
    assert budgets.of("talk").withdraw(NOW)
    assert budgets.balances(NOW) == {"shop": 0, "talk": RESERVE - 1}
    for number in range(2 * MOST_BUDGETS):
        budgets.of(f"peer-{number}")
    assert len(budgets.balances(NOW)) == MOST_BUDGETS

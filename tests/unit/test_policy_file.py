"""A policy file: what it may say, how it is refused, what it means, and what a new one changes."""

from textwrap import dedent

import pytest

from heatshield.call_key import CallKey
from heatshield.contract import BreakerMode, EntryScope
from heatshield.declared_limit import LimitPer, LimitUnit
from heatshield_alerts.draft import Draft
from heatshield_alerts.policy import NO_POLICY, Policy, PolicyError, differences, load_text
from heatshield_alerts.policy.pattern import Pattern

WHOLE = """
    rules:
      never_calls: ["*/GET /health", shop/POST /checkout]
      never_users: [anonymous, guest-*]
      users_at_most: 3
      entries_at_most: 50
      new_per_minute: 10
      user_share: 0.02
      traffic_share: 0.2
      reject_at_once_over_s: 5s
      ladders:
        shop/GET /export: reject
        shop/*: pace
    limits:
      - {id: per-user, per: user, unit: requests, rate_per_s: 50, burst: 10, service: shop}
      - id: export
        per: user_call
        unit: busy
        rate_per_s: 0.5
        call: GET /export
"""


def load(text: str) -> Policy:
    return load_text(dedent(text), "policy.yaml")


def errors(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return list(caught.value.errors)


def draft(
    user: str = "u-1", call: str = "GET /p", scope: EntryScope = EntryScope.USER_CALL
) -> Draft:
    return Draft(CallKey("default", user, "shop", call), "rule:Hot", scope=scope)


def test_everything_that_a_policy_may_say_is_read() -> None:
    policy = load(WHOLE)
    rules = policy.rules
    assert [one.text for one in rules.never_users] == ["anonymous", "guest-*"]
    assert rules.caps.users(100_000) == 3
    assert (rules.caps.entries, rules.caps.new_per_minute) == (50, 10)
    assert rules.reject_at_once_over_s == 5.0
    first, second = policy.limits
    assert (first.per, first.unit, first.rate_per_s, first.burst) == (
        LimitPer.USER,
        LimitUnit.REQUESTS,
        50.0,
        10.0,
    )
    assert (second.unit, second.call) == (LimitUnit.BUSY, "GET /export")


def test_a_file_that_leaves_all_out_is_what_holds_without_a_file() -> None:
    assert load("rules:") == NO_POLICY == load("{}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rulez: {}", "line 1: the policy: unknown key 'rulez'; did you mean 'rules'?"),
        ("rules:\n  never_user: [a]", "line 2: rules: unknown key 'never_user'; did you mean"),
        ("rules: {users_at_most: 2.5}", "users_at_most: 2.5 is no whole number"),
        ("rules: {users_at_most: -1}", "users_at_most: -1 is out of range; it may be 0 to 10000"),
        ("rules: {entries_at_most: 501}", "it may be 0 to 500"),
        ("rules: {traffic_share: 0.9}", "it may be 0 to 0.5"),
        ("rules: {traffic_share: '0.1'}", "'0.1' is no number"),
        ("rules: {user_share: .nan}", "is no number"),
        ("rules: {never_calls: anything}", "never_calls: is a list"),
        ("rules: {never_calls: [checkout]}", "'checkout' is no call: say service/call"),
        ("rules: {never_users: [~]}", "needs a value"),
        ("rules: {ladders: {shop/a: rejct}}", "'rejct' is no ladder; did you mean 'reject'?"),
        ("rules: {}\nrules: {}", "line 1: key 'rules' is repeated"),
        ("limits: [{id: a, per: user, unit: requests}]", "a limit: rate_per_s is missing"),
        ("limits: [{id: A, per: user, unit: requests, rate_per_s: 1}]", "'A' is no name"),
        ("limits: [{id: a, per: usr, unit: requests, rate_per_s: 1}]", "did you mean 'user'?"),
        ("limits: [{id: a, per: user, unit: request, rate_per_s: 1}]", "did you mean 'requests'?"),
        ("limits: [{id: a, per: user, unit: requests, rate_per_s: 0}]", "out of range"),
        ("limits: [{id: a, per: user, unit: bytes, rate_per_s: 1, call: 'GET *'}]", "exactly"),
        ("limits: [{id: a, per: user, unit: bytes, rate_per_s: 1e3, brust: 1}]", "'burst'?"),
        ("", "is empty"),
        ("# all is commented out", "is empty"),
        ("rules: [", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_nearest_known_word(text: str, said: str) -> None:
    assert said in " ".join(errors(text))


def test_all_mistakes_are_told_at_once() -> None:
    found = errors("rules:\n  never_user: [a]\n  users_at_most: x\nlimits: {}\n")
    assert [one.split(": ")[1] for one in found] == ["line 2", "line 3", "line 4"]


def test_a_repeated_id_of_limits_is_a_mistake() -> None:
    one = "{id: a, per: user, unit: requests, rate_per_s: 1}"
    assert "the id is repeated" in errors(f"limits:\n - {one}\n - {one}")[0]


def test_patterns_stand_for_any_text_and_for_one_character() -> None:
    assert Pattern("guest-*").matches("guest-")
    assert Pattern("u-?").matches("u-1")
    assert not Pattern("u-?").matches("u-12")
    assert not Pattern("a[b]").matches("ab")  # every other character stands for itself
    assert Pattern("*/GET /health").may_begin_with("shop/")
    assert Pattern("shop/*").may_begin_with("shop/")
    assert not Pattern("shop/GET /a").may_begin_with("cart/")


def test_never_users_and_never_calls_forbid_and_say_which_line() -> None:
    rules = load(WHOLE).rules
    assert rules.forbids(draft("guest-7")) == "never_users: guest-*"
    assert rules.forbids(draft(call="POST /checkout")) == "never_calls: shop/POST /checkout"
    assert rules.forbids(draft()) == ""


def test_an_entry_around_a_whole_service_is_around_its_calls_that_are_never_tripped() -> None:
    rules = load("rules: {never_calls: [shop/POST /checkout]}").rules
    assert rules.forbids(draft(call="", scope=EntryScope.USER_SERVICE))
    assert not load("rules: {never_calls: [cart/*]}").rules.forbids(
        draft(call="", scope=EntryScope.USER_SERVICE)
    )


def test_ladders_go_before_the_rule_and_a_costly_call_is_refused_at_once() -> None:
    rules = load(WHOLE).rules
    pace, reject = BreakerMode.PACE, BreakerMode.REJECT

    def steps(call: str, cost_s: float) -> tuple[BreakerMode, BreakerMode | None]:
        return rules.steps(draft(call=call).key, pace, reject, cost_s)

    assert steps("GET /export", 0.1) == (reject, None)
    assert steps("GET /other", 9.0) == (pace, None)  # it is only ever paced
    just_costly = load("rules: {reject_at_once_over_s: 2}").rules
    key = draft().key
    assert just_costly.steps(key, pace, reject, 1.9) == (pace, reject)
    assert just_costly.steps(key, pace, reject, 2.1) == (reject, None)


def test_a_version_names_what_is_said_and_not_how() -> None:
    one = load("rules: {users_at_most: 2, traffic_share: 0.1}")
    other = load("# a comment\nrules:\n  traffic_share: 0.10\n  users_at_most: 2\n")
    assert one.version == other.version != NO_POLICY.version


def test_differences_are_sentences() -> None:
    assert differences(load(WHOLE), load(WHOLE)) == []
    before = load(
        "rules: {never_users: [a]}\nlimits: [{id: x, per: user, unit: bytes, rate_per_s: 5}]"
    )
    after = load(
        "rules: {never_users: [b], users_at_most: 2}\n"
        "limits: [{id: x, per: user, unit: bytes, rate_per_s: 6}]"
    )
    assert differences(before, after) == [
        "rules.never_users: added 'b'",
        "rules.never_users: removed 'a'",
        "rules.users_at_most: as user_share says → 2",
        "limit x: rate_per_s 5.0 → 6.0",
    ]
    assert differences(after, NO_POLICY)[-1] == "limit x: removed, was 6 bytes a second per user"

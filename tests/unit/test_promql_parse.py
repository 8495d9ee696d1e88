"""What the evaluator refuses, and how it says so."""

import pytest

from heatshield_alerts.matchers import Matcher, MatcherError, MatchKind
from heatshield_alerts.promql import (
    EvaluationError,
    Evaluator,
    ExpressionSyntaxError,
    UnsupportedExpression,
    parse,
)
from heatshield_alerts.series import InstantSamples, Labels, Sample


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rate(a[5m])", r"rate\(\)"),
        ("absent(a)", r"absent\(\)"),
        ("a[5m]", "range vector"),
        ("a[5m:1m]", "subquery"),
        ('"text"', "a string"),
        ("a offset 5m", "offset"),
        ("a @ 10", "@"),
        ('a{x="1" or y="2"}', "or"),
        ("quantile(0.5, a)", "quantile"),
        ('count_values("v", a)', "count_values"),
        ("stddev(a)", "stddev"),
        ("1 + sum(rate(a[1m]))", r"rate\(\)"),
        ("topk(scalar(a), b)", r"scalar\(\)"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_when_parsed(text, named):
    with pytest.raises(UnsupportedExpression, match=named):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "a >", "1 > 2", "sum(1)", "{}", 'a{x=~"("}', 'a{x=~"b**"}', "a and 1", 'a{x=~"(?=b)"}'],
)
def test_what_is_not_promql_is_a_syntax_error(text):
    """`b**` is not RE2 although the parser's own engine takes it."""
    with pytest.raises(ExpressionSyntaxError):
        parse(text)


def test_a_pattern_that_would_backtrack_for_ever_is_answered_at_once():
    """Users choose their ids; an engine that backtracks would outlive the sun on this one."""
    matcher = Matcher("user", MatchKind.REGEX, "(a+)+b")
    assert not matcher.matches("a" * 5_000)


def test_a_regular_expression_matches_the_whole_value_and_newlines():
    assert Matcher("x", MatchKind.REGEX, "a.b").matches("a\nb")
    assert not Matcher("x", MatchKind.REGEX, "a").matches("a\n")
    assert Matcher("x", MatchKind.NOT_REGEX, "a").matches("ab")


def test_a_matcher_forgets_but_stays_right(monkeypatch):
    monkeypatch.setattr("heatshield_alerts.matchers.REMEMBERED_VALUES", 5)
    matcher = Matcher("x", MatchKind.REGEX, "v[0-9]*[02468]")
    values = [f"v{n}" for n in range(40)]
    for _ in range(2):
        for start in range(0, 40, 4):
            chunk = values[start : start + 4]
            assert matcher.filter(chunk, str) == chunk[::2]
    assert len(matcher._known) <= 5


def test_a_bad_pattern_names_the_matcher():
    with pytest.raises(MatcherError, match='user=~"\\("'):
        Matcher("user", MatchKind.REGEX, "(")


def test_too_many_samples_are_an_error_not_a_stall():
    source = InstantSamples(Sample.of("a", {"n": str(n)}, 1.0) for n in range(11))
    with pytest.raises(EvaluationError, match="11 samples selected, 10 allowed"):
        Evaluator(max_samples=10).evaluate(parse("a"), source, 0.0)


@pytest.mark.parametrize(
    ("text", "side"), [("a + on(x) group_left b", "right"), ("b + on(x) group_right a", "left")]
)
def test_many_to_many_matching_is_refused_naming_the_side_and_the_series(text, side):
    one = [Sample.of("b", {"x": "1", "n": n}, 1.0) for n in "12"]
    source = InstantSamples([Sample.of("a", {"x": "1"}, 1.0), *one])
    with pytest.raises(EvaluationError, match=f'{{x="1"}} on the {side} hand-side.*n="2".*n="1"'):
        Evaluator().evaluate(parse(text), source, 0.0)


def test_a_label_without_value_is_no_label():
    assert Labels({"a": "", "b": "1"}) == Labels({"b": "1"})
    assert Labels({"b": "1"}).updated({"b": ""}) == Labels()
    assert str(Labels({"__name__": "m", "x": 'a"\\\n'})) == 'm{x="a\\"\\\\\\n"}'


def test_a_scalar_rule_becomes_one_sample_without_labels():
    assert Evaluator().vector(parse("1 + 1"), InstantSamples([]), 0.0) == [Sample(Labels(), 2.0)]

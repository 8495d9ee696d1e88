"""Templates print what Prometheus' would; the golden alert scenarios prove it with promtool."""

import math

import pytest

from heatshield_alerts.rules import Template, TemplateError


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("plain", 1, "plain"),
        ("{{ $labels.user }}/{{.Labels.user}}/{{ $labels.nobody }}.", 1, "u-1/u-1/."),
        ("{{ $value }}", 2.0, "2"),
        ("{{ .Value }}", 0.1, "0.1"),
        ("{{ $value }}", 1234567.0, "1.234567e+06"),
        ("{{ $value }}", 100000.0, "100000"),
        ("{{ $value }}", -0.00002, "-2e-05"),
        ("{{ $value }}", math.nan, "NaN"),
        ("{{ $value }}", math.inf, "+Inf"),
        ('{{ printf "%.2f%% of %s" $value $labels.user }}', 1.005, "1.00% of u-1"),
        ('{{ $value | printf "%6.1f|" }}', 2.25, "   2.2|"),
        ('{{ printf "%.1f" $value }}', math.inf, "+Inf"),
        ('{{ printf "%v" $value }}', 3.0, "3"),
        ("{{ $value | humanize }}", 1234.5, "1.234k"),
        ("{{ humanize $value }}", 0.0012, "1.2m"),
        ("{{ humanize $value }}", 0.0, "0"),
        ("{{ $value | humanizePercentage }}", 0.1234, "12.34%"),
        ("{{ $value | humanizeDuration }}", 3661.0, "1h 1m 1s"),
        ("{{ $value | humanizeDuration }}", 0.25, "250ms"),
        ("{{ $labels.user | toUpper }}", 0, "U-1"),
        ('{{ "a}}b" }}', 0, "a}}b"),
        ("a {{- $value -}} b", 1.0, "a1b"),
        ("{{ `x` }}", 0, "x"),
    ],
)
def test_a_template_renders(text, value, expected):
    assert Template(text).render({"user": "u-1"}, value) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ $externalURL }}",
        "{{ query `up` }}",
        "{{ if $value }}x{{ end }}",
        "{{ $value",
        "{{ }}",
        "{{ | humanize }}",
        '{{ printf "%d" $value }}',
        '{{ printf "%.2f" }}',
        '{{ printf "%.2f" $labels.user }}',
        "{{ printf $labels.user }}",
        "{{ $labels.user | printf }}",
        "{{ humanize $labels.user }}",
        "{{ humanize $value $value }}",
        "{{ toUpper $value }}",
    ],
)
def test_what_is_not_supported_is_refused_when_the_rule_is_loaded(text):
    with pytest.raises(TemplateError):
        Template(text)


def test_a_user_id_is_never_taken_for_a_template():
    assert Template("{{ $labels.user }}").render({"user": "{{ $value }} %s"}, 1.0) == (
        "{{ $value }} %s"
    )

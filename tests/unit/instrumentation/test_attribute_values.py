"""What attribute values become: bounded work on the service's thread, whatever is handed over."""

import pytest

from heatshield.tracing.values import MAX_ITEMS, plain


class Counting(list):
    """Counts how many of its items were looked at."""

    looked_at = 0

    def __iter__(self):
        for item in super().__iter__():
            Counting.looked_at += 1
            yield item


def test_lists_within_lists_share_one_bound():
    nested = Counting([Counting([Counting([0] * 200)] * 200)] * 200)
    shown = plain(nested)
    assert len(shown[0][0]) == MAX_ITEMS - 2
    assert Counting.looked_at <= MAX_ITEMS + 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([True, None, 1, 1.5, "a"], (True, None, 1, 1.5, "a")),
        ({"a": {"b": (1,)}, 3: [False]}, {"a": {"b": (1,)}, "3": (False,)}),
        ([[[[[1]]]]], (((("<list>",),),),)),
        (2**63, str(2**63)),
    ],
)
def test_values_become_what_otlp_can_carry(value, expected):
    shown = plain(value)
    assert shown == expected
    assert [type(item) for item in shown] == [type(item) for item in expected]


def test_a_number_that_has_no_text_is_its_type():
    assert plain(10**5_000) == "<int>"

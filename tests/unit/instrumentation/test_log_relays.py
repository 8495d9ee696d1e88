"""Which of the records that are written inside another's are the same record once more."""

import logging

import pytest

from heatshield.integrations.logs.deduplicate import Emission, Follows, current


def record(text, *arguments):
    return logging.LogRecord("shop", 20, "/srv/shop.py", 7, text, arguments, None)


def inside(outer, said, *, reached=True):
    """Write ``said`` inside of ``outer``; whether it is exported by itself, and the outer too."""
    emission = Emission(outer)
    relay = Emission(said)
    relay.reached = reached
    by_itself = relay.close()
    return by_itself, emission.close()


@pytest.mark.parametrize(
    ("outer", "said"),
    [
        (record("bought %s", 7), "bought 7"),
        ("bought 7", record("INFO shop bought %s", 7)),
        ("bought seven", record("INFO bought seven\nTraceback...")),
        ('bought "seven"', '{"event": "bought \\"seven\\""}'),
        ('bought "seven"', '{"text": "x", "record": {"message": "bought \\"seven\\""}}'),
        ("bought seven", "2026-12-01 07:08:09,123 | INFO | shop.stock:buy:88 - bought seven"),
        ("bought seven", "[shop-api] Dec  1 MainThread WARNING: bought seven"),
        ("bought seven", "07:08:09 [info     ] bought seven              user=u-1 items='a b'"),
        ("", record("")),
    ],
)
def test_what_says_the_same_is_a_relay_and_its_reaching_counts_for_the_outer(outer, said):
    assert inside(outer, said) == (False, True)
    assert inside(outer, said, reached=False) == (False, False)


@pytest.mark.parametrize(
    ("outer", "said"),
    [
        ("bought 7", "the file of the log is full"),
        ("ok", "not ok at all"),  # too short to be found within by chance
        (record("%d", "x"), "wrong arguments"),
        ("bought seven", "not sent: bought seven"),
        ("bought seven", "INFO shop bought seven could not be sent"),
        ("bought seven", '{"event": "not sent", "record": "bought seven"}'),
    ],
)
def test_what_a_handler_has_to_say_for_itself_is_a_record_of_its_own(outer, said):
    assert inside(outer, said) == (True, False)


def test_the_same_record_is_a_relay_whatever_it_says():
    same = record("%d", "x")
    assert inside(same, same) == (False, True)


def test_a_relay_of_a_relay_counts_for_the_outermost():
    emissions = [Emission("bought seven") for _ in range(3)]
    emissions[2].reached = True
    assert [emission.close() for emission in reversed(emissions)] == [False, False, True]
    assert current() is None


def test_the_next_is_a_relay_once_it_is_awaited_and_no_other():
    outer = Emission("bought")
    outer.follows = Follows.NONE
    assert Emission("bought").close() is False
    assert outer.relays == 0
    outer.follows = Follows.THE_NEXT
    for expected in (True, False):
        relay = Emission("rendered")
        assert (relay.outer is outer) is expected
        relay.close()
    outer.close()


def test_what_a_task_inherited_is_over_when_it_logs():
    import contextvars

    outer = Emission("bought")
    context = contextvars.copy_context()
    outer.close()
    assert context.run(lambda: Emission("bought").outer) is None

"""A key's text reads back as the same key, whatever a user is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.call_key import SEPARATOR, CallKey

NAMES = st.text(st.characters(exclude_characters=SEPARATOR))


@given(NAMES, st.none() | st.text(), NAMES, NAMES)
def test_a_key_is_read_back(tenant: str, user: str | None, service: str, call: str) -> None:
    key = CallKey(tenant, user, service, call)
    assert CallKey.parse(key.text) == key


@given(st.text(), st.none() | st.text(), st.text(), st.text())
def test_no_separator_turns_one_user_into_another(
    tenant: str, user: str | None, service: str, call: str
) -> None:
    assert CallKey.parse(CallKey(tenant, user, service, call).text).user == user


def test_a_user_named_unknown_is_a_user() -> None:
    assert CallKey("t", "unknown", "s", "c").text != CallKey("t", None, "s", "c").text
    assert CallKey("t", "", "s", "c").text != CallKey("t", None, "s", "c").text


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no key of a call"):
        CallKey.parse("shop")

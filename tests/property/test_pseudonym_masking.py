"""Masking: no spelling of an id is left, nothing else is touched, and twice is as good as once."""

import base64
import json
import re
from urllib.parse import quote, quote_plus

from hypothesis import assume, given
from hypothesis import strategies as st

from heatshield.identity.pseudonym import Alias, in_lower_case, is_pseudonym, pseudonym
from heatshield.identity.pseudonym_cache import Aliases

KEY = b"a key for tests"

USERS = st.text(min_size=1, max_size=40).filter(str.isprintable)
DISTINCTIVE = st.from_regex(r"[a-z]{4,8}[-_.@:][a-z]{0,4}[0-9]{1,6}", fullmatch=True)
SHORT = st.sampled_from(["1", "7", "12", "a", "ann", "Zoë", "200", "1.1", "x-1", "İ", "οδός"])
TEXTS = st.text(max_size=200)
SEPARATORS = st.sampled_from(["/", " ", ":", "=", "'", '"', "?", "&", "(", "-", "_", "\n", " 山 "])


def alias(raw):
    return Alias(raw, pseudonym(KEY, raw))


def every_character_encoded(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


SPELLINGS = {
    "plain": str,
    "upper": lambda raw: raw.upper() if len(raw.upper()) == len(raw) else raw,
    "quoted": lambda raw: quote(raw, safe=""),
    "quoted like a path": quote,
    "quoted like a form": quote_plus,
    "quoted twice": lambda raw: quote(quote(raw, safe=""), safe=""),
    "all of it quoted": every_character_encoded,
    "json": lambda raw: json.dumps(raw)[1:-1],
    "repr of bytes": lambda raw: repr(raw.encode())[2:-1],
}
ENCODED = {
    "hex": lambda raw: raw.encode().hex(),
    "HEX": lambda raw: raw.encode().hex().upper(),
    "base64": lambda raw: base64.b64encode(raw.encode()).decode(),
    "base64 of json": lambda raw: base64.b64encode(f'{{"user":"{raw}"}}'.encode()).decode(),
    "base64 in a token": lambda raw: base64.urlsafe_b64encode(f'{{"u":"{raw}"}}'.encode()).decode(),
}


@given(USERS | SHORT, SEPARATORS, SEPARATORS, st.sampled_from(sorted(SPELLINGS)))
def test_no_spelling_of_an_id_that_stands_alone_is_left(raw, before, after, spelling):
    spelled = SPELLINGS[spelling](raw)
    assume(spelling != "upper" or in_lower_case(spelled) == in_lower_case(raw))
    assume(raw not in before + after)  # an id of one sign, which would be masked there, too
    known_as = alias(raw)
    assert known_as.masked(f"{before}{spelled}{after}") == f"{before}{known_as.pseudonym}{after}"


@given(DISTINCTIVE, st.sampled_from(sorted(ENCODED)), TEXTS)
def test_an_encoded_id_is_recognised_too(raw, encoding, text):
    encoded = ENCODED[encoding](raw)
    core = raw[2:-2]  # the first and last characters share bits of base64 with their neighbours
    masked = alias(raw).masked(f"{text}/{encoded}")
    assert encoded not in masked
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + core.encode()).decode().rstrip("=")
        inner = whole[-(-8 * offset // 6) : 8 * (offset + len(core)) // 6]
        assert len(inner) < 4 or inner not in masked.rpartition("/")[2]


@given(SHORT, st.text(alphabet="abc123", min_size=1, max_size=5), st.booleans())
def test_a_short_id_within_a_word_is_no_id(raw, more, behind):
    assume(raw[0].isalnum() and raw[-1].isalnum())
    text = f"x {raw}{more} y" if behind else f"x {more}{raw} y"
    assume(in_lower_case(raw) not in re.split(r"[\W_]", in_lower_case(text)))
    assume("." not in raw)
    assert alias(raw).masked(text) == text


@given(st.integers(0, 999).map(str), st.integers(0, 10**6), st.integers(0, 10**6))
def test_numbers_versions_and_addresses_are_not_garbled_by_a_number(raw, one, other):
    assume(raw not in (str(one), str(other)))
    texts = (f"HTTP/{raw}.{one}", f"{one}.{raw} ms", f"{one}.{raw}.{other}.{raw}", f"{one}{raw}")
    for text in texts:
        assert alias(raw).masked(text) == text


@given(USERS | SHORT | DISTINCTIVE, TEXTS, TEXTS)
def test_masking_twice_is_masking_once(raw, before, after):
    known_as = alias(raw)
    once = known_as.masked(f"{before} {raw} {known_as.pseudonym} {quote(raw)}{after}")
    assert known_as.masked(once) == once
    assert known_as.pseudonym in once


@given(USERS | DISTINCTIVE, TEXTS)
def test_a_text_without_the_id_stays(raw, text):
    lowered = in_lower_case(text)
    assume("%" not in text)
    assume(in_lower_case(raw) not in lowered)
    assume(not any(mark in text for mark in ("\\", "&")))
    found = alias(raw).masked(text)
    assert found == text or len(raw.encode()) >= 3  # its base64 may stand there by chance


@given(st.lists(DISTINCTIVE, min_size=1, max_size=20, unique=True), TEXTS)
def test_distinctive_ids_are_masked_wherever_they_turn_up(users, text):
    aliases = Aliases(KEY)
    for user in users:
        aliases.of(user)
    for user in users:
        for spelled in (user, quote(user, safe=""), user.upper()):
            masked = aliases.masked(f"{text} GET /u/{spelled}?x")
            assert masked.endswith(f" GET /u/{pseudonym(KEY, user)}?x")


@given(st.lists(st.sampled_from(["error", "GET", "1", "200", "ann", "stickers"])), TEXTS)
def test_an_id_that_could_be_any_word_garbles_nobody_elses_texts(users, text):
    aliases = Aliases(KEY)
    for user in users:
        aliases.of(user)
    assert aliases.masked(text + " error GET 1 200 ann") == text + " error GET 1 200 ann"


@given(USERS)
def test_pseudonyms_are_recognised_and_are_no_ids(raw):
    made = pseudonym(KEY, raw)
    assert is_pseudonym(made)
    assert not is_pseudonym(raw) or raw.startswith("hs1-")
    assert not is_pseudonym(made.removeprefix("hs1-"))
    assert not is_pseudonym(made + "0")
    assert not is_pseudonym(made.upper())

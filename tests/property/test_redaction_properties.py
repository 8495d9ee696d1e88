"""Redaction: no secret is left, nothing else is lost, twice is once, and the time is linear."""

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatshield.sanitize.redaction import PARAMETERS, REDACTED, SECRETS, Redaction

REDACTION = Redaction(["iban"])

SECRET = st.text("0123456789abcdefXYZ.-_~", min_size=8, max_size=40).map(
    lambda text: f"s3cr3t{text}"
)
MORE = ["X-Amz-Signature", "access_token", "refresh-token", "client_secret", "API_KEY", "iban"]
NAMES = st.sampled_from([*sorted(SECRETS | PARAMETERS), *MORE])
HARMLESS = st.sampled_from(
    ["page", "q", "user", "sort", "next_page_token", "max_tokens", "id", "tokens"]
)
PLAIN = st.text("abc123-._~", max_size=10)
PARAMETER = st.tuples(NAMES, SECRET) | st.tuples(HARMLESS, PLAIN)
TEXTS = st.text(max_size=100)


def query_of(parameters):
    return "&".join(f"{name}={value}" for name, value in parameters)


def kept_of(parameters):
    return "&".join(
        f"{name}={REDACTED if 's3cr3t' in value else value}" for name, value in parameters
    )


@given(st.lists(PARAMETER, max_size=6))
def test_a_query_keeps_its_names_and_its_harmless_values(parameters):
    assert REDACTION.query(query_of(parameters)) == kept_of(parameters)


@given(st.lists(PARAMETER, min_size=1, max_size=6), st.booleans())
def test_an_address_keeps_all_but_secrets(parameters, with_userinfo):
    userinfo = "u:s3cr3t@" if with_userinfo else ""
    shown = f"{REDACTED}:{REDACTED}@" if with_userinfo else ""
    url = f"https://{userinfo}shop.example:8443/a/b?{query_of(parameters)}#top"
    expected = f"https://{shown}shop.example:8443/a/b?{kept_of(parameters)}#top"
    assert REDACTION.url(url) == expected
    assert REDACTION.text(f'"GET {url} HTTP/1.1" 200') == f'"GET {expected} HTTP/1.1" 200'


@given(NAMES, SECRET)
def test_names_are_known_however_they_are_written(name, secret):
    encoded = "".join(f"%{ord(char):02X}" for char in name)
    for spelled in (name, name.upper(), name.replace("_", "-"), encoded, quote(name, safe="")):
        assert secret not in REDACTION.query(f"a=1&{spelled}={secret}")


@given(TEXTS, TEXTS)
def test_twice_is_once(before, after):
    text = f"{before}?token=abc&password=x {after}"
    once = REDACTION.text(text)
    assert REDACTION.text(once) == once
    assert REDACTION.query(REDACTION.query(text)) == REDACTION.query(text)
    assert REDACTION.url(REDACTION.url(text)) == REDACTION.url(text)


@given(st.text("abc 123./-_,\n", max_size=200))
def test_a_text_without_marks_stays(text):
    assert REDACTION.text(text) == text


@given(st.dictionaries(NAMES | HARMLESS, SECRET))
def test_headers_keep_their_names(headers):
    shown = REDACTION.headers(headers)
    assert shown.keys() == headers.keys()
    for name, value in shown.items():
        assert value == (REDACTED if REDACTION.is_secret(name) else headers[name])


@pytest.mark.parametrize(
    "piece",
    ["://", "://@", "eyJ", "-eyJ", "eyJa.", "?a", "?a=", "&", "cookie", 'cookie="', "cookie: ", "'",
     "bearer ", "bearer\t", "basic a", "pass", "password", 'password="', "pwd  ", "%", "@", "#k="],
)  # fmt: skip
@pytest.mark.parametrize("tail", ["", "x" * 50_000])
def test_no_text_takes_long(piece, tail):
    text = piece * (65_536 // len(piece)) + tail
    began = time.thread_time()
    REDACTION.text(text)
    REDACTION.url(text)
    REDACTION.query(text)
    assert time.thread_time() - began < 1.0

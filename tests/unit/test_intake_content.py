"""Content codings are undone step by step, and never beyond the limit."""

import gzip
import random
import tracemalloc
import zlib

import pytest
import zstandard

from heatshield_collector.intake.content import (
    MAX_MEMBERS,
    AbandonedError,
    Media,
    inflate,
    is_plain,
    media_of,
)
from heatshield_collector.intake.payload import MalformedError, TooLargeError, UnsupportedError

BODY = bytes(range(256)) * 4096  # one MiB: several steps
PACK = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
codings = pytest.mark.parametrize("coding", PACK)


@codings
@pytest.mark.parametrize("body", [b"", b"a", BODY], ids=["empty", "a byte", "a MiB"])
def test_a_coding_is_undone(coding: str, body: bytes) -> None:
    assert inflate(PACK[coding](body), coding.upper(), len(BODY)) == body


@pytest.mark.parametrize("coding", [None, "", "identity", " Identity "])
def test_a_plain_body_stays_as_it_is(coding: str | None) -> None:
    assert is_plain(coding)
    assert inflate(b"abc", coding, 3) == b"abc"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(coding: str) -> None:
    """RFC 1952 and RFC 8878 let a body be several compressed parts after one another."""
    assert inflate(PACK[coding](b"ab") + PACK[coding](b"cd"), coding, 4) == b"abcd"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("member", [b"", b"ab"])
def test_members_are_bounded_in_number(coding: str, member: bytes) -> None:
    """400,000 empty ones fit into 8 MB; they took half an hour, for zlib copies what follows."""
    packed = PACK[coding](member)
    assert inflate(packed * MAX_MEMBERS, coding, len(BODY)) == member * MAX_MEMBERS
    with pytest.raises(MalformedError, match="more than 10000 members"):
        inflate(packed * 400_000, coding, len(BODY))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_is_handed_over_in_windows_comes_out_whole(coding: str) -> None:
    """Members larger and smaller than a window, and boundaries anywhere in it."""
    noise = random.Random(1).randbytes(70_000)
    for size in (1, 3, 16_383, 16_384, 16_385, 70_000):
        body = PACK[coding](noise[:size]) * 3 + PACK[coding](noise) + PACK[coding](bytes(2**20))
        assert inflate(body, coding, 2 << 20) == noise[:size] * 3 + noise + bytes(2**20)


@codings
def test_nothing_more_is_inflated_once_it_is_abandoned(coding: str) -> None:
    asked = iter([False, True])
    with pytest.raises(AbandonedError):
        inflate(PACK[coding](BODY), coding, len(BODY), lambda: next(asked))


@codings
def test_the_limit_itself_is_allowed_and_a_byte_more_is_not(coding: str) -> None:
    assert len(inflate(PACK[coding](BODY), coding, len(BODY))) == len(BODY)
    with pytest.raises(TooLargeError):
        inflate(PACK[coding](BODY), coding, len(BODY) - 1)


def test_a_plain_body_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLargeError):
        inflate(b"abcd", None, 3)


@codings
def test_a_bomb_is_not_inflated(coding: str) -> None:
    """A few kilobytes that stand for 64 MiB cost less than 4 MiB beyond the limit."""
    limit = 1 << 20
    bomb = PACK[coding](bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(bomb, coding, limit)
        assert tracemalloc.get_traced_memory()[1] < limit + (4 << 20)
    finally:
        tracemalloc.stop()


@codings
@pytest.mark.parametrize("cut", [1, 4, 20])
def test_a_body_cut_short_is_malformed(coding: str, cut: int) -> None:
    with pytest.raises(MalformedError, match="not valid"):
        inflate(PACK[coding](BODY)[:-cut], coding, len(BODY))


@codings
def test_a_body_in_another_coding_is_malformed(coding: str) -> None:
    with pytest.raises(MalformedError, match="not valid"):
        inflate(b"this was never compressed", coding, 100)


@codings
def test_rubbish_after_the_body_is_malformed(coding: str) -> None:
    with pytest.raises(MalformedError, match="not valid"):
        inflate(PACK[coding](b"abc") + b"rubbish", coding, 100)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "snappy", "x" * 1000])
def test_another_coding_is_unsupported(coding: str) -> None:
    assert not is_plain(coding)
    with pytest.raises(UnsupportedError, match="gzip") as raised:
        inflate(b"", coding, 10)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        ("application/x-protobuf", Media.PROTOBUF),
        ("application/protobuf", Media.PROTOBUF),
        ("Application/JSON; charset=utf-8", Media.JSON),
    ],
)
def test_a_content_type_names_the_media(content_type: str, media: Media) -> None:
    assert media_of(content_type) is media


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/jsonx", "*/*"])
def test_another_content_type_is_unsupported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedError):
        media_of(content_type)

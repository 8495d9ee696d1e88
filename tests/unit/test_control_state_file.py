"""``breakers.json``: all of it comes back, and nothing that is not the file that was written."""

import json
import os
import stat

import pytest

from heatshield.call_key import DEFAULT_TENANT, CallKey
from heatshield.clock import Instant
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.draft import Draft
from heatshield_collector.control.state_file import (
    MOST_BYTES,
    STATE_FILE,
    KeptState,
    StateFile,
    StateFileError,
    decode,
    encode,
)

HARD_TEXT = "é 李 \ud800 \u202e \x00"
NOW = Instant(50.0, 1_700_000_000 * 10**9)


def state(users=2):
    control = BreakerControl(7)
    for number in range(users):
        draft = Draft(
            CallKey(DEFAULT_TENANT, f"u-{number}", "shop", "POST /p"),
            "human:ann",
            reason=HARD_TEXT,
            evidence={"load": 0.1 + number / 3, "trace_ids": ["aa"], HARD_TEXT: float("nan")},
        )
        control.trip(draft, NOW.monotonic_s)
    return KeptState(7, control.keep(NOW))


def test_what_was_written_is_read_back_by_value_and_the_file_is_its_owner_s_alone(tmp_path):
    file, kept = StateFile(tmp_path), state()
    assert file.read() is None
    for written in (kept, state(0), state(50), kept):
        file.write(written)
        found = file.read()
        assert json.dumps(found.control) == json.dumps(written.control)
        assert found.epoch == 7
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [STATE_FILE]


def test_a_file_that_ends_anywhere_is_damaged_and_so_is_one_with_any_byte_changed():
    content = encode(state(1))
    assert decode(content).epoch == 7
    for end in range(len(content) - 1):
        with pytest.raises(StateFileError):
            decode(content[:end])
    for at in range(len(content) - 1):
        changed = content[:at] + bytes([content[at] ^ 0x01]) + content[at + 1 :]
        with pytest.raises(StateFileError):
            decode(changed)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00" * 4096, b"\xff\xfe", b"null", b"[]", b"7", b'"x"', b"{}", b"[" * 100_000,
        b'{"format": "heatshield-breakers"}', b'{"format": "other", "version": 1}',
        b"9" * 5_000, b'{"format": ["heatshield-breakers"], "version": 1}',
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(content):
    with pytest.raises(StateFileError):
        decode(content)


def signed(**members):
    """A file whose checksum is right, whatever else is wrong with it."""
    said = json.loads(encode(state(1)))
    return encode(KeptState(**{"epoch": said["epoch"], "control": said["control"], **members}))


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"epoch": "7"}, "epoch"),
        ({"epoch": True}, "epoch"),
        ({"epoch": 7.5}, "epoch"),
        ({"control": []}, "what was held"),
        ({"control": {}}, "format None"),
        ({"control": {"format": 2}}, "format 2"),
    ],
)
def test_members_of_wrong_types_and_later_formats_are_refused_with_the_reason(members, says):
    with pytest.raises(StateFileError, match=says):
        decode(signed(**members))


def test_a_later_version_is_refused_and_additions_are_ignored(monkeypatch):
    kept = state(1)
    monkeypatch.setattr("heatshield_collector.control.state_file._VERSION", 2)
    later = encode(kept)
    monkeypatch.undo()
    with pytest.raises(StateFileError, match="version 2"):
        decode(later)
    assert decode(signed(control={**kept.control, "of a later version": 1})).epoch == 7


def test_what_can_t_be_read_is_set_aside_for_people_and_a_new_file_is_written(tmp_path):
    file = StateFile(tmp_path)
    file.path.write_bytes(b"garbage")
    with pytest.raises(StateFileError, match="no JSON"):
        file.read()
    aside = file.set_aside()
    assert aside.read_bytes() == b"garbage"
    file.write(state())
    assert file.read().epoch == 7
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(StateFileError, match="directory"):
        file.read()


def test_a_file_without_end_is_not_read_into_memory(tmp_path):
    file = StateFile(tmp_path)
    with file.path.open("wb") as opened:
        opened.truncate(MOST_BYTES * 1_000)
    with pytest.raises(StateFileError, match="more than"):
        file.read()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = StateFile(tmp_path)
    file.write(state(1))
    before = file.path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        file.write(state(3))
    assert file.path.read_bytes() == before
    monkeypatch.undo()
    file.write(state(3))
    assert len(file.read().control["held"]) == 3

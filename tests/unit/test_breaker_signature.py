"""State that is signed: only the pinned key's is believed, and a recording renews nothing."""

import json
from dataclasses import replace

import pytest

from heatshield.breakers.signature import SIGNED, Unverifiable, Verifier, verifier
from heatshield.clock import ManualClock
from heatshield.contract import ContractError, PlatformMode, Snapshot, StateVersion
from heatshield_collector.signer import Signer, SigningKeyError, make_key, read_key

SEED = bytes(range(32))
STATE = Snapshot(StateVersion(3, 17), PlatformMode.PROTECT)


@pytest.fixture
def signer():
    return Signer(SEED, ManualClock())


def sent(fields):
    return json.loads(json.dumps(fields))


def test_what_is_signed_is_read_back(signer):
    signed = sent(signer.sign(STATE.to_json(), "snapshot"))
    assert Snapshot.from_json(Verifier(signer.public_key).read(signed, "snapshot")) == STATE
    assert Snapshot.from_json(signed) == STATE, "also by a client that pins no key"


def test_the_plain_fields_beside_it_are_not_believed(signer):
    signed = sent(signer.sign(STATE.to_json(), "snapshot"))
    signed["version"] = 99
    read = Snapshot.from_json(Verifier(signer.public_key).read(signed, "snapshot"))
    assert read.at.version == 17


@pytest.mark.parametrize(
    "spoil",
    [
        lambda signed: signed.pop(SIGNED),
        lambda signed: signed[SIGNED].update(signature="AAAA"),
        lambda signed: signed[SIGNED].update(signature="no base64!"),
        lambda signed: signed[SIGNED].update(signature=7),
        lambda signed: signed[SIGNED].update(text=signed[SIGNED]["text"].replace("17", "18")),
        lambda signed: signed.update({SIGNED: []}),
        lambda signed: signed[SIGNED].pop("text"),
    ],
)
def test_what_was_changed_or_not_signed_is_refused(signer, spoil):
    signed = sent(signer.sign(STATE.to_json(), "snapshot"))
    spoil(signed)
    with pytest.raises(ContractError):
        Verifier(signer.public_key).read(signed, "snapshot")


def test_another_key_is_refused(signer):
    other = Signer(bytes(32), ManualClock())
    with pytest.raises(ContractError, match="pinned key"):
        Verifier(signer.public_key).read(other.sign(STATE.to_json(), "snapshot"), "snapshot")


def test_a_delta_is_no_snapshot(signer):
    signed = signer.sign(STATE.to_json(), "delta")
    with pytest.raises(ContractError, match="no snapshot"):
        Verifier(signer.public_key).read(signed, "snapshot")


def test_a_recorded_snapshot_renews_nothing(signer):
    checks = Verifier(signer.public_key)
    recorded = signer.sign(STATE.to_json(), "snapshot")
    checks.read(recorded, "snapshot")
    assert checks.fresh
    assert Snapshot.from_json(checks.read(recorded, "snapshot")) == STATE
    assert not checks.fresh
    checks.read(signer.sign(STATE.to_json(), "snapshot"), "snapshot")
    assert checks.fresh


def test_what_is_issued_later_is_newer_also_when_the_clock_was_set_back():
    clock = ManualClock()
    signer = Signer(SEED, clock)
    checks = Verifier(signer.public_key)
    checks.read(signer.sign(STATE.to_json(), "snapshot"), "snapshot")
    clock.step_wall_clock(-3_600.0)
    checks.read(signer.sign(STATE.to_json(), "snapshot"), "snapshot")
    assert checks.fresh


def test_a_collector_that_starts_again_with_its_clock_set_back_renews_leases(signer):
    checks = Verifier(signer.public_key)
    checks.read(signer.sign(STATE.to_json(), "snapshot"), "snapshot")
    recorded = signer.sign(STATE.to_json(), "snapshot")
    clock = ManualClock()
    clock.step_wall_clock(-3_600.0)
    next_state = replace(STATE, at=StateVersion(4, 1))
    checks.read(Signer(SEED, clock).sign(next_state.to_json(), "snapshot"), "snapshot")
    assert checks.fresh
    checks.read(recorded, "snapshot")
    assert not checks.fresh, "of the epoch before"


@pytest.mark.parametrize("key", ["no base64!", "AAAA", "é"])
def test_a_key_that_is_none_has_nothing_believed(signer, key):
    checks = verifier(key)
    assert isinstance(checks, Unverifiable)
    with pytest.raises(ContractError, match="breaker_key"):
        checks.read(signer.sign(STATE.to_json(), "snapshot"), "snapshot")


def test_without_a_key_everything_is_read(signer):
    assert verifier("").read({"epoch": 1}, "snapshot") == {"epoch": 1}


def test_the_signing_key_is_its_owners_alone(tmp_path):
    path = tmp_path / "breakers.key"
    seed = make_key(path)
    assert read_key(path) == seed
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_key(path)
    path.chmod(0o644)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA"])
def test_a_file_without_a_key_says_so(tmp_path, text):
    path = tmp_path / "breakers.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SigningKeyError):
        read_key(path)


def test_no_file_says_how_to_make_one(tmp_path):
    with pytest.raises(SigningKeyError, match="heatshield signing-key"):
        read_key(tmp_path / "none")

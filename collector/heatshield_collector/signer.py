"""Signs breaker state with Ed25519, for services that pin the public key.

The form stands in :mod:`heatshield.breakers.signature`, which verifies it.
"""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from heatshield.breakers.signature import SIGNED
from heatshield.clock import Clock
from heatshield.settings import SettingsError

__all__ = ["Signer", "SigningKeyError", "make_key", "read_key"]

KEY_BYTES: Final = 32


class SigningKeyError(SettingsError):
    """The file with the signing key can't be used; says what to do."""


class Signer:
    """Adds the signed text to snapshots and deltas.

    Args:
        seed: the private key, 32 bytes.
        clock: says when something was issued.

    Raises:
        SigningKeyError: if the library that signs is not installed.
    """

    def __init__(self, seed: bytes, clock: Clock) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        except ImportError as error:
            raise SigningKeyError(
                "to sign breakers, install heatshield[signed], which brings cryptography"
            ) from error
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._clock = clock
        self._issued_ns = 0

    @property
    def public_key(self) -> str:
        """What services pin: base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
        """The same object with the field that is signed.

        Args:
            fields: of a snapshot or a delta, as the contract has them.
            kind: ``snapshot`` or ``delta``.
        """
        # Later than any before, also where the wall clock was set back: services demand it.
        self._issued_ns = max(self._clock.time_ns(), self._issued_ns + 1)
        issued = {**fields, "kind": kind, "issued_ns": self._issued_ns}
        text = orjson.dumps(issued, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
        signature = base64.b64encode(self._key.sign(text)).decode()
        return {**fields, SIGNED: {"text": text.decode(), "signature": signature}}


def make_key(path: Path) -> bytes:
    """Leave a new private key in a file that only its owner reads; returns it.

    Raises:
        FileExistsError: if there is a file already: services pin its key.
    """
    seed = os.urandom(KEY_BYTES)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(base64.b64encode(seed) + b"\n")
    return seed


def read_key(path: Path) -> bytes:
    """Read the private key from a file.

    Raises:
        SigningKeyError: if there is none, or others may read it.
    """
    try:
        text = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise SigningKeyError(
            f"{path} can't be read ({error.strerror}): `heatshield signing-key {path}` makes a key"
        ) from error
    if mode & 0o077:
        raise SigningKeyError(f"{path} may be read by others: chmod 600 {path}")
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except ValueError as error:
        raise SigningKeyError(f"{path} is no base64") from error
    if len(seed) != KEY_BYTES:
        raise SigningKeyError(f"{path} holds {len(seed)} bytes; a key has {KEY_BYTES}")
    return seed

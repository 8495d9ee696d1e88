"""Signed breaker state: who holds the collector's address but not its key can have nobody refused.

The collector signs each snapshot and delta with Ed25519 (RFC 8032), and a service that pins the
public key takes nothing else. What is signed is a text of its own beside the plain fields::

    {"epoch": 3, ..., "signed": {"text": "{...}", "signature": "base64"}}

``text`` is the JSON of the same object with ``kind`` (``snapshot`` or ``delta``) and ``issued_ns``,
nanoseconds since the Unix epoch. A pinned client reads that text alone. A snapshot renews leases
only if it was issued later than any before, by epoch and then by ``issued_ns``, so that a recorded
answer can't hold a user.
"""

import base64
from typing import Final

from heatshield.contract import ContractError
from heatshield.json_fields import decode, integer_in, object_of, text_in

__all__ = ["SIGNED", "Checks", "Unsigned", "Unverifiable", "Verifier", "verifier"]

SIGNED: Final = "signed"
"""The field with the signed text."""

KEY_BYTES: Final = 32


class Unsigned:
    """Takes state as it comes: no key is pinned."""

    pinned = False
    fresh = True

    def read(self, value: object, kind: str) -> object:
        """The object itself."""
        del kind
        return value


class Verifier:
    """Takes what the owner of one key has signed, and nothing else.

    Args:
        key: the public key, base64 of 32 bytes.

    Raises:
        ValueError: if the key is none.
        ImportError: if the library that verifies is not installed.

    Attributes:
        fresh: whether the snapshot that was read last was issued later than any before.
    """

    pinned = True

    def __init__(self, key: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        self._key = Ed25519PublicKey.from_public_bytes(_bytes_of(key))
        self._issued = (-1, -1)
        self.fresh = False

    def read(self, value: object, kind: str) -> object:
        """The object that was signed.

        Args:
            value: with the signed text in the field :data:`SIGNED`.
            kind: ``snapshot`` or ``delta``.

        Raises:
            ContractError: if it is not signed, not by this key, or of another kind.
        """
        from cryptography.exceptions import InvalidSignature

        signed = object_of(object_of(value, kind).get(SIGNED), f"{kind}.signed")
        text = text_in(signed, "text")
        try:
            signature = base64.b64decode(text_in(signed, "signature"), validate=True)
            self._key.verify(signature, text.encode())
        except (InvalidSignature, ValueError) as error:
            raise ContractError(f"the {kind} is not signed by the pinned key") from error
        fields = object_of(decode(text), kind)
        if text_in(fields, "kind") != kind:
            raise ContractError(f"what was signed is no {kind}")
        issued_ns = integer_in(fields, "issued_ns")
        if kind == "snapshot":
            # A collector that starts again knows its epoch, but not what it issued before its wall
            # clock was set back.
            issued = (integer_in(fields, "epoch"), issued_ns)
            self.fresh = issued > self._issued
            self._issued = max(self._issued, issued)
        return fields


class Unverifiable:
    """Takes nothing: a key is pinned with which nothing can be verified here.

    Args:
        why: for people.
    """

    pinned = True
    fresh = False

    def __init__(self, why: str) -> None:
        self.why = why

    def read(self, value: object, kind: str) -> object:
        """Refuse it.

        Raises:
            ContractError: always.
        """
        del value
        raise ContractError(f"no {kind} is believed: {self.why}")


Checks = Unsigned | Verifier | Unverifiable
"""What checks the state that comes in."""


def verifier(key: str) -> Checks:
    """What checks the state that comes in; it never falls back to believing what is not signed.

    Args:
        key: that is pinned; empty: none.
    """
    if not key:
        return Unsigned()
    try:
        return Verifier(key)
    except ValueError as error:
        return Unverifiable(str(error))
    except ImportError:
        return Unverifiable("install heatshield[signed], which brings what verifies")


def _bytes_of(key: str) -> bytes:
    try:
        found = base64.b64decode(key, validate=True)
    except ValueError as error:  # of base64, and of a text that is not ASCII
        raise ValueError(f"breaker_key is base64, not {key!r}") from error
    if len(found) != KEY_BYTES:
        raise ValueError(f"breaker_key has {KEY_BYTES} bytes, not {len(found)}")
    return found

"""The events of the breaker stream: which one a client is to be told, and its bytes.

The one place where an event becomes bytes. Clients at the same version are told the same, so each
event is encoded once for all of them.
"""

from typing import Any

from heatshield.contract import StateVersion
from heatshield_collector.api.stream import encode_event
from heatshield_collector.ports import BreakerService, Signs

__all__ = ["BreakerEvents"]


class BreakerEvents:
    """Encodes the events of one breaker state. Not thread-safe: for one event loop.

    Args:
        breakers: the state.
        signer: signs it, if it is to be signed.
    """

    def __init__(self, breakers: BreakerService, signer: Signs | None = None) -> None:
        self._breakers = breakers
        self._signer = signer
        self._at: StateVersion | None = None
        self._encoded: dict[StateVersion | None, tuple[bytes, StateVersion]] = {}

    def next(self, sent: StateVersion | None) -> tuple[bytes, StateVersion]:
        """What a client is to be told, and the version it then is at.

        A heartbeat where nothing changed; a delta where the client's version is remembered; else
        the snapshot.

        Args:
            sent: the version the client is at; ``None`` when it has none.
        """
        at = self._breakers.at()
        if at != self._at:
            self._at = at
            self._encoded.clear()
        if (known := self._encoded.get(sent)) is not None:
            return known
        if sent is not None:
            event = self._since(sent, at)
            if event is not None:
                self._encoded[sent] = event
                return event
        # Any number of clients may name versions of which nothing is known, so these are no keys.
        if None not in self._encoded:
            self._encoded[None] = self._snapshot()
        return self._encoded[None]

    def _since(self, sent: StateVersion, at: StateVersion) -> tuple[bytes, StateVersion] | None:
        if sent == at:
            return encode_event("heartbeat", {}, str(at)), at
        delta = self._breakers.delta_since(sent)
        if delta is None:
            return None
        return self._encode("delta", delta.to_json(), delta.at)

    def _snapshot(self) -> tuple[bytes, StateVersion]:
        state = self._breakers.snapshot()
        return self._encode("snapshot", state.to_json(), state.at)

    def _encode(
        self, kind: str, fields: dict[str, Any], at: StateVersion
    ) -> tuple[bytes, StateVersion]:
        signed = fields if self._signer is None else self._signer.sign(fields, kind)
        return encode_event(kind, signed, str(at)), at

"""The real breaker state and HTTP face of a collector, in process, on a clock moved by hand."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx

from heatshield.clock import ManualClock
from heatshield.contract import PlatformMode, StateVersion
from heatshield.export.answer import Answer
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.caps import Caps
from heatshield_alerts.control_state import KeptControl
from heatshield_collector.api.app import create_app
from heatshield_collector.api.breaker_events import BreakerEvents
from heatshield_collector.api.stream import encode_event
from heatshield_collector.authenticator import AdminTokenAuthenticator
from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.outlets import Outlets
from heatshield_collector.events import EventHub
from heatshield_collector.ports import Ports

__all__ = ["Collector"]

TOKEN: Final = "of the admin"  # noqa: S105


class _Current:
    """What is asked of it, whichever collector runs at the moment answers: routes are made once."""

    target: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


class _Silent:
    """Takes whatever it is told: a journal, say."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


_breakers, _clock = _Current(), _Current()
_loop = asyncio.new_event_loop()
_ports = Ports(
    store=cast("Any", _Silent()),
    loads=cast("Any", _Silent()),
    alerts=tuple,
    breakers=cast("Any", _breakers),
    events=EventHub(encode_event),
    ready=tuple,
    metrics=lambda _: (b"", ""),
    clock=cast("Any", _clock),
    authenticator=AdminTokenAuthenticator(TOKEN),
)
_http = httpx.AsyncClient(
    transport=httpx.ASGITransport(create_app(_ports)),
    base_url="http://collector",
    headers={"authorization": f"Bearer {TOKEN}"},
)


class Collector:
    """A collector that can be ended and started again on the same data.

    Args:
        clock: that stamps all.
        caps: on entries.
    """

    def __init__(self, clock: ManualClock, caps: Caps) -> None:
        self._clock, self._caps = clock, caps
        _clock.target = clock
        self._disk = json.dumps({"epoch": 0, "state": {}})
        self.restart()

    def _start(self, epoch: int) -> None:
        self.control = BreakerControl(epoch, PlatformMode.PROTECT, self._caps)
        silent: Any = _Silent()
        outlets = Outlets(silent, silent, silent, self._keep)
        self.breakers = Breakers(self.control, outlets, lambda *_: None, self._clock)
        self._events = BreakerEvents(self.breakers)
        _breakers.target = self.breakers

    def _keep(self, epoch: int, state: Mapping[str, Any]) -> None:
        self._disk = json.dumps({"epoch": epoch, "state": state})

    def restart(self) -> None:
        """kill -9, and another process on the same data."""
        kept = json.loads(self._disk)
        self._start(kept["epoch"] + 1)
        self.breakers.restore(KeptControl(kept["state"]), self._clock.now())

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> Answer:
        """One request over HTTP, through the routes of the real application."""
        asked = _http.request(method, path, content=body, headers=headers)
        answer = _loop.run_until_complete(asked)
        return Answer(answer.status_code, dict(answer.headers), answer.content)

    def says(self, sent: StateVersion | None) -> tuple[bytes, StateVersion]:
        """The bytes that its stream sends next to a client at this version."""
        return self._events.next(sent)

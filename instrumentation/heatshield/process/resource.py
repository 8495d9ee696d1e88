"""What this process is, as OpenTelemetry resource attributes."""

import os
import socket
import uuid
from collections.abc import Mapping
from urllib.parse import unquote

from heatshield.names import SERVICE_INSTANCE_ID, SERVICE_NAME, WORKERS
from heatshield.settings import ServiceSettings

__all__ = ["Instance"]


class Instance:
    """This process: its service, its capacity, and an id that is new in every process.

    Args:
        settings: with the service's name and its workers.
        environ: whose ``OTEL_RESOURCE_ATTRIBUTES`` are taken over.
    """

    def __init__(self, settings: ServiceSettings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        environ = os.environ if environ is None else environ
        self._given = _given(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        self._host = socket.gethostname()
        self.renew()

    def renew(self) -> None:
        """Take a new id: after a fork, the child is another instance."""
        self.id = str(uuid.uuid4())
        self._pid = os.getpid()

    @property
    def attributes(self) -> dict[str, str | int]:
        """The attributes that every payload of this process carries."""
        return {
            "host.name": self._host,
            "telemetry.sdk.language": "python",
            **self._given,
            "process.pid": self._pid,
            SERVICE_NAME: self._settings.service,
            SERVICE_INSTANCE_ID: self.id,
            WORKERS: self._settings.workers,
        }


def _given(text: str) -> dict[str, str]:
    """``key=value,key=value``, percent-encoded, as OpenTelemetry has it; the rest is left out."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {key.strip(): unquote(value.strip()) for key, found, value in pairs if found and key}

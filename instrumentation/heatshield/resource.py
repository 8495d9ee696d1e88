"""What this process is, as OpenTelemetry resource attributes."""

import uuid

from heatshield.names import SERVICE_INSTANCE_ID, SERVICE_NAME, WORKERS
from heatshield.settings import ServiceSettings

__all__ = ["Instance"]


class Instance:
    """This process: its service, its capacity, and an id that is new in every process.

    Args:
        settings: with the service's name and its workers.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self.renew()

    def renew(self) -> None:
        """Take a new id: after a fork, the child is another instance."""
        self.id = str(uuid.uuid4())

    @property
    def attributes(self) -> dict[str, str | int]:
        """The attributes that every payload of this process carries."""
        return {
            SERVICE_NAME: self._settings.service,
            SERVICE_INSTANCE_ID: self.id,
            WORKERS: self._settings.workers,
        }

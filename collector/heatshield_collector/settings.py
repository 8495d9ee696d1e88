"""What the collector can be told: section ``collector``, environment ``HEATSHIELD_COLLECTOR_*``."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CollectorSettings"]


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Settings of ``heatshield up``."""

    data: str = _setting("./heatshield-data", "folder of the embedded store")
    http: str = _setting("127.0.0.1:4318", "address of the one HTTP listener")
    grpc: str = _setting("127.0.0.1:4317", "address of OTLP/gRPC, or off")
    mode: str = _setting("protect", "protect, or shadow: decide and record, enforce nothing")
    admin_token: str = _setting("", "bearer token asked of whoever changes breakers or the mode")

    queue_mib: int = _setting(64, "MiB of payloads waiting for the disk; beyond it senders get 503")
    payload_mib: int = _setting(64, "largest payload after decompression, MiB; beyond it 413")

    retention_hours: float = _setting(72.0, "age at which telemetry is let go")
    retention_gib: float = _setting(20.0, "size of the store at which the oldest is let go, GiB")

    cold_start_s: float = _setting(120.0, "baseline seconds before a hot user may be tripped")
    hot_share: float = _setting(0.03, "share of a service's capacity at which a user is hot")
    hot_ratio: float = _setting(5.0, "times the user's own 5-minute baseline at which he is hot")
    hot_floor: float = _setting(
        0.1, "least load of a hot user, in workers, however small a service"
    )

    rules: tuple[str, ...] = _setting((), "Prometheus rule files beside the shipped ones")
    notify: tuple[str, ...] = _setting((), "apprise URLs told of firing and resolved alerts")
    public_url: str = _setting("", "address of this collector as people reach it, for links")

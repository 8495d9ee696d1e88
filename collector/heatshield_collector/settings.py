"""What the collector can be told: section ``collector``, environment ``HEATSHIELD_COLLECTOR_*``."""

from dataclasses import dataclass
from typing import Final

from heatshield import names
from heatshield.contract import MAX_WORKERS
from heatshield.settings import HEADER_NAME, setting

__all__ = ["CollectorSettings"]


_SMALLEST: Final = 0.001
"""For what must be more than nothing: 3.6 s of an age in hours, a mebibyte in GiB."""

_LONGEST_H: Final = 10 * 365 * 24
"""Ten years: some records are kept ten times as long, and nanoseconds are 64 bits."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Settings of ``heatshield up``."""

    data: str = setting(names.DEFAULT_DATA, "folder of the embedded store")
    http: str = setting("127.0.0.1:4318", "address of the one HTTP listener")
    grpc: str = setting("127.0.0.1:4317", "address of OTLP/gRPC, or off")
    mode: str = setting(
        "",
        "shadow: decide and record, enforce nothing; protect: enforce; empty: as a person set it "
        "last, at first shadow",
    )
    token: str = setting(
        "",
        "bearer token that every caller needs, to send, enforce or read; a must where other "
        "machines reach the collector",
    )
    admin_token: str = setting(
        "",
        "bearer token to change breakers or the mode, beside the one that `up` leaves in the data "
        "folder for the command line",
    )

    signing_key: str = setting(
        "", "file with the key that breakers are signed by; `heatshield signing-key FILE` makes one"
    )
    check_user_header: str = setting(
        "x-user-id", "header that names the user where gateways ask /v1/check", pattern=HEADER_NAME
    )
    check_user_key: str = setting(
        "",
        "the services' user_key, if they have one: then gateways may name users by their raw ids",
    )

    queue_mib: int = setting(
        64, "MiB of payloads waiting for the disk; beyond it senders get 503", least=1, most=65_536
    )
    payload_mib: int = setting(
        64, "largest payload after decompression, MiB; beyond it 413", least=1, most=1_024
    )

    retention_hours: float = setting(
        72.0, "age at which telemetry is let go", least=_SMALLEST, most=_LONGEST_H
    )
    retention_gib: float = setting(
        20.0,
        "size of the store at which the oldest is let go, GiB",
        least=_SMALLEST,
        most=1_048_576,
    )

    cold_start_s: float = setting(
        120.0, "baseline seconds before a hot user may be tripped", least=0, most=86_400
    )
    hot_share: float = setting(
        0.03, "share of a service's capacity at which a user is hot", least=_SMALLEST, most=1
    )
    hot_ratio: float = setting(
        5.0,
        "times the user's own 5-minute baseline at which the user is hot",
        least=1,
        most=1_000_000,
    )
    hot_floor: float = setting(
        0.1,
        "least load of a hot user, in workers, however small a service",
        least=0,
        most=MAX_WORKERS,
    )

    rules: tuple[str, ...] = setting((), "Prometheus rule files beside the shipped ones")
    policy: str = setting(
        "",
        "policy file: what rules may do, and limits on calls; watched, so that a change of it "
        "needs no restart",
    )
    notify: tuple[str, ...] = setting(
        (),
        "apprise URLs told of firing and resolved alerts; `file:PATH` names a file with a URL on "
        "each line, `env:NAME` a variable that holds one",
    )
    public_url: str = setting("", "address of this collector as people reach it, for links")

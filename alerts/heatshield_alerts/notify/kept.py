"""What targets were told, as texts that outlive the process.

Only what a target was told to be firing is kept: for the rest, having been told that it is resolved
and never having been told of it come to the same.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from heatshield.clock import Instant
from heatshield_alerts.notify.dedup import Sent
from heatshield_alerts.notify.notice import Status
from heatshield_alerts.outcome import OutcomeKind
from heatshield_alerts.series import Labels

__all__ = ["Keep", "read_sent", "sent_key", "sent_text", "target_id"]

Keep: TypeAlias = Callable[[Mapping[str, str | None]], None]
"""Takes texts by key for the next start; ``None``: no longer any. Never blocks, never raises."""


def target_id(url: str) -> str:
    """A name of a target that does not tell its secret."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def sent_key(target: str, labels: Labels) -> str:
    """What tells an alert at a target from all others."""
    return json.dumps([target, dict(labels.pairs)])


def sent_text(sent: Sent | None, now: Instant) -> str | None:
    """What a target was told now; ``None`` where nothing needs to be known of it."""
    if sent is None or sent.status is not Status.FIRING:
        return None
    return json.dumps({"at_ns": now.epoch_ns, "done": sent.done})


def read_sent(kept: Mapping[str, str], now: Instant) -> dict[str, dict[Labels, Sent]]:
    """By target, what it was told of each alert, in this process' time; the unreadable left out."""
    by_target: dict[str, dict[Labels, Sent]] = {}
    for key, text in kept.items():
        try:
            target, labels = json.loads(key)
            said = json.loads(text)
            ago_s = max(0, now.epoch_ns - said["at_ns"]) / 1e9
            done = OutcomeKind(said["done"]) if said.get("done") else None
            sent = Sent(Status.FIRING, now.monotonic_s - ago_s, done)
            by_target.setdefault(target, {})[Labels(labels)] = sent
        except (ValueError, KeyError, TypeError):
            continue
    return by_target

"""The mode that a collector begins in, and how a mode that a person set outlives a restart."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from heatshield.clock import Instant
from heatshield.contract import PlatformMode
from heatshield_collector.store.protocol import ControlStore, KeptMode, StoreError

__all__ = ["FIRST_MODE", "ModeKeeper", "StartMode", "mode_at_start"]

_log = logging.getLogger(__name__)

FIRST_MODE: Final = PlatformMode.SHADOW
"""A platform whose users are not yet seen to be named rightly must refuse none of them."""

Keeps = Callable[[PlatformMode, str, Instant], None]
"""Told of (mode, who set it, when)."""


class StartMode(NamedTuple):
    """The mode that a collector begins in.

    Attributes:
        mode: itself.
        why: where it comes from, in words for people.
    """

    mode: PlatformMode
    why: str


def mode_at_start(configured: str, kept: KeptMode | None) -> StartMode:
    """Whichever was decided last: what a person set, or what the settings say.

    Args:
        configured: the setting ``mode``; empty: it is left to people.
        kept: what a person set last. It stands as long as the setting is what it was then.
    """
    if kept is not None and kept.configured == configured:
        return StartMode(PlatformMode(kept.mode), f"as {kept.by} set it last")
    if configured:
        return StartMode(PlatformMode(configured), "as the settings say")
    return StartMode(FIRST_MODE, "as every collector begins")


class ModeKeeper:
    """Keeps each mode that a person sets.

    Args:
        store: where it is kept.
        configured: the setting ``mode``.
    """

    def __init__(self, store: ControlStore, configured: str) -> None:
        self._store = store
        self._configured = configured

    def __call__(self, mode: PlatformMode, by: str, now: Instant) -> None:
        """Keep it. That the disk is full must not keep a person from ending enforcement."""
        try:
            self._store.keep_mode(KeptMode(mode.value, self._configured, now.epoch_ns, by))
        except StoreError:
            _log.exception("mode %s holds, but will be forgotten at a restart", mode.value)

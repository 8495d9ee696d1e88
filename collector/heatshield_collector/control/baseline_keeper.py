r"""Keeps what detection knows to be usual over a restart: ``baselines.bin`` in the data folder.

::

    ["heatshield-baselines 1\n"][written, nanoseconds since the Unix epoch, 8 bytes][SHA-256 of the
    rest, 32 bytes][what :meth:`~heatshield_collector.detect.Detection.state` gave]

The number is little-endian. It is written twice a minute on a thread of its own, and when the
collector ends, so that a kill forgets half a minute. What is lost with it is learned again.
"""

import hashlib
import logging
import struct
import threading
from pathlib import Path
from typing import Final

from heatshield.clock import Clock
from heatshield_collector.control.replace_file import replace_file
from heatshield_collector.detect import Detection

__all__ = ["BASELINES_FILE", "KEEP_EVERY_S", "BaselineKeeper"]

_log = logging.getLogger(__name__)

BASELINES_FILE: Final = "baselines.bin"
"""Its name in the data folder."""

KEEP_EVERY_S: Final = 30.0
"""Seconds between two writes: a tenth of the time that a baseline speaks of."""

MOST_BYTES: Final = 128 * 2**20
"""A larger file is none of ours."""

_MAGIC: Final = b"heatshield-baselines 1\n"
_WRITTEN: Final = struct.Struct("<q")
_HASH_BYTES: Final = 32


class BaselineKeeper:
    """One thread that writes what is usual.

    Args:
        detection: knows it.
        folder: the data folder; it exists.
        clock: stamps the file, and is waited on.

    Attributes:
        failures: writes that failed.
    """

    def __init__(self, detection: Detection, folder: Path, clock: Clock) -> None:
        self._detection = detection
        self._path = folder / BASELINES_FILE
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heatshield-baselines", daemon=True)
        self.failures = 0

    def restore(self) -> float:
        """Have detection go on with what was kept; before anything is observed.

        What is damaged, too old, or of another version is logged and left alone.

        Returns:
            For how many seconds what is usual has been known; 0: not all of it is.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
            written_ns, state = _read(content)
            now = self._clock.now()
            # Ages below zero are of a wall clock that was set back.
            age_s = max(0.0, (now.epoch_ns - written_ns) / 1e9)
            known_s = self._detection.restore(state, age_s, now)
        except FileNotFoundError:
            return 0.0
        except (OSError, ValueError) as error:
            _log.warning("what was usual is not known again: %s: %s", self._path, error)
            return 0.0
        _log.info("what is usual is known from %.0f s ago", age_s)
        return known_s

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write once more, then end."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._clock.wait(self._ended, KEEP_EVERY_S):
            self.keep()
        self.keep()

    def keep(self) -> None:
        """Write what is usual now. A failure is counted, and logged the first time."""
        now = self._clock.now()
        try:
            state = self._detection.state(now)
            checksum = hashlib.sha256(state).digest()
            written = _WRITTEN.pack(now.epoch_ns)
            replace_file(self._path, b"".join((_MAGIC, written, checksum, state)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
            self.failures += 1
            if self.failures == 1:
                _log.warning("what is usual is not kept for a restart: %s", error)


def _read(content: bytes) -> tuple[int, bytes]:
    """When a file was written, nanoseconds since the Unix epoch, and the state in it.

    Raises:
        ValueError: if it is damaged, or none of this version.
    """
    begins = len(_MAGIC) + _WRITTEN.size + _HASH_BYTES
    if not content.startswith(_MAGIC) or not begins <= len(content) <= MOST_BYTES:
        raise ValueError("it is no file of what is usual, or of another version")
    (written_ns,) = _WRITTEN.unpack_from(content, len(_MAGIC))
    state = content[begins:]
    if content[begins - _HASH_BYTES : begins] != hashlib.sha256(state).digest():
        raise ValueError("it is damaged: its checksum is wrong")
    return written_ns, state

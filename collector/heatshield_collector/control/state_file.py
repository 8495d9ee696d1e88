"""``breakers.json`` in the data folder: what breaker control holds, for the next collector.

It is one JSON object on one line::

    {"format": "heatshield-breakers", "version": 1, "epoch": 1700000000, "control": {...},
     "sha256": "..."}

``control`` is what :func:`heatshield_alerts.control_state.keep` gives. ``sha256`` is of the object
without it, written as Python's ``json`` does with the separators ``,`` and ``:``. The file is
replaced at once: a reader sees the old one or the new one, also after a kill or a loss of power.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from heatshield_alerts.control_state import FORMAT
from heatshield_collector.control.replace_file import replace_file

__all__ = ["STATE_FILE", "KeptState", "StateFile", "StateFileError", "decode", "encode"]

STATE_FILE: Final = "breakers.json"
"""Its name in the data folder."""

UNREADABLE_FILE: Final = "breakers.unreadable.json"
"""The name that a file is given which can't be read, for people to look at."""

MOST_BYTES: Final = 32 * 2**20
"""A larger file is none of ours: 100 entries with all their evidence, and ten minutes of moves,
take less than one MiB."""

_KIND: Final = "heatshield-breakers"
_VERSION: Final = 1


class StateFileError(Exception):
    """The file is there, but it can't be read, or is none that this version understands."""


class KeptState(NamedTuple):
    """What the file holds.

    Attributes:
        epoch: of the collector that wrote it.
        control: what it held, as :class:`~heatshield_alerts.control_state.KeptControl` takes it.
    """

    epoch: int
    control: Mapping[str, Any]


def encode(state: KeptState) -> bytes:
    """The file's bytes."""
    said = {"format": _KIND, "version": _VERSION, "epoch": state.epoch, "control": state.control}
    text = _text(said)
    return f'{text[:-1]},"sha256":"{_checksum(text)}"}}\n'.encode("ascii")


def decode(content: bytes) -> KeptState:
    """Read :func:`encode` back; members that are not known are ignored.

    Raises:
        StateFileError: if it is damaged, of something else, or of another version.
    """
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StateFileError(f"it is no JSON: {error}") from None
    if not isinstance(said, dict) or said.get("format") != _KIND:
        raise StateFileError("it is no file of a collector's breakers")
    if said.get("version") != _VERSION:
        raise StateFileError(f"it has version {said.get('version')!r}, not {_VERSION}")
    checksum = said.pop("sha256", None)
    if checksum != _checksum(_text(said)):
        raise StateFileError("it is damaged: its checksum is wrong")
    epoch, control = said.get("epoch"), said.get("control")
    if type(epoch) is not int or not isinstance(control, dict):
        raise StateFileError("it lacks its epoch or what was held")
    if control.get("format") != FORMAT:
        raise StateFileError(f"what was held has format {control.get('format')!r}, not {FORMAT}")
    return KeptState(epoch, control)


def _text(said: Mapping[str, Any]) -> str:
    return json.dumps(said, separators=(",", ":"), default=str)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class StateFile:
    """The file in a folder. One process at a time may write it: the one that has the store.

    Args:
        folder: the data folder; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / STATE_FILE

    def read(self) -> KeptState | None:
        """What was written last; ``None``: nothing was.

        Raises:
            StateFileError: if there is a file that can't be read.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(str(error)) from error
        if len(content) > MOST_BYTES:
            raise StateFileError(f"it has more than {MOST_BYTES} bytes")
        return decode(content)

    def set_aside(self) -> Path:
        """Give a file that can't be read another name, as the next write would replace it.

        Raises:
            OSError: if that can't be done.
        """
        return self.path.replace(self._folder / UNREADABLE_FILE)

    def write(self, state: KeptState) -> None:
        """Replace the file; durable on return.

        Raises:
            OSError: if it can't be written; then the old one is still there.
        """
        replace_file(self.path, encode(state))

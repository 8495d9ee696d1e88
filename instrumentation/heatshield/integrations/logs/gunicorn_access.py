"""gunicorn's access log: its lines belong to the requests they tell of.

gunicorn writes them when the application has returned. A line without its request would have no
trace, and would name the raw user id where a pseudonym is to stand.
"""

import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.context import Context, attach, detach

from heatshield.context.finished import context_in
from heatshield.counters import fail_open
from heatshield.integrations.patches import Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "gunicorn_access"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch gunicorn's logger; classes of a service's own derive from it.

    Raises:
        ImportError: if gunicorn is not installed.
    """
    del services
    _PATCHES.undo()
    _PATCHES.wrap(import_module("gunicorn.glogging").Logger, "access", _in_its_request)


def remove() -> None:
    """Take it out again."""
    _PATCHES.undo()


def _in_its_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def access(logger: Any, resp: Any, req: Any, environ: Any, *rest: Any) -> None:
        context = _context(environ, sys._getframe(1))  # noqa: SLF001  # CPython's own name for it
        if context is None:
            original(logger, resp, req, environ, *rest)
            return
        token = attach(context)
        try:
            original(logger, resp, req, environ, *rest)
        finally:
            detach(token)

    return access


@fail_open(NAME, None)
def _context(environ: Any, caller: Any) -> Context | None:
    """By the WSGI environ; else by the ASGI scope of the worker, which makes up an environ."""
    return context_in(environ) or context_in(caller.f_locals.get("scope"))

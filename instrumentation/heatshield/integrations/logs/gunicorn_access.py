"""gunicorn's access log: each line belongs to the request that it is about.

gunicorn writes them when the application has returned. A line without its request would have no
trace, and would name the raw user id where a pseudonym is to stand.
"""

import sys
from functools import wraps
from importlib import import_module
from types import FrameType
from typing import Final

from opentelemetry.context import Context

from heatshield.context.attachment import attach, detach
from heatshield.context.finished import context_in
from heatshield.counters import fail_open
from heatshield.integrations.patches import Original, Patches
from heatshield.integrations.services import Services

__all__ = ["NAME", "install", "remove"]

NAME: Final = "gunicorn_access"

_PATCHES: Final = Patches()


def install(services: Services) -> None:
    """Patch gunicorn's logger, from which a service's own classes derive.

    Raises:
        ImportError: if gunicorn is not installed.
    """
    del services
    _PATCHES.undo()
    _PATCHES.wrap(import_module("gunicorn.glogging").Logger, "access", _in_its_request)


def remove() -> None:
    """Take the patches out again."""
    _PATCHES.undo()


def _in_its_request(original: Original) -> Original:
    @wraps(original)
    def access(
        logger: object, resp: object, req: object, environ: object, *rest: object, **named: object
    ) -> None:
        context = _context(environ, sys._getframe(1))  # noqa: SLF001  # CPython's own name for it
        if context is None:
            original(logger, resp, req, environ, *rest, **named)
            return
        token = attach(context)
        try:
            original(logger, resp, req, environ, *rest, **named)
        finally:
            detach(token)

    return access


@fail_open(NAME, None)
def _context(environ: object, caller: FrameType) -> Context | None:
    """Found by the WSGI environ; else by the worker's ASGI scope, of which it makes an environ."""
    return context_in(environ) or context_in(caller.f_locals.get("scope"))

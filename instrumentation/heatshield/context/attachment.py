"""Makes a context the current one and takes it back, wherever the block that did so ends.

A generator may be entered in one context and left in another: FastAPI runs a synchronous dependency
that yields, and Starlette each step of a synchronous generator that streams, in a copy of the
request's context; a loop closes a forgotten asynchronous generator in a task of its own. The token
is then of no use, as the context that it belongs to has ended or is another task's. That is no
error, and OpenTelemetry's ``detach`` would log a traceback for each.
"""

from contextvars import ContextVar, Token
from typing import TypeVar, cast

from opentelemetry.context import _RUNTIME_CONTEXT, Context, attach, get_current

__all__ = ["attach", "detach", "reset"]

T = TypeVar("T")


def detach(token: "Token[Context]", attached: Context | None = None) -> bool:
    """Restore the context that was the current one before ``token``.

    Args:
        token: the result of :func:`attach`.
        attached: what was attached. A task that was started within it and ends the block has
            inherited it, and gets the context that was before.

    Returns:
        Whether the token is one of the current context; ``False`` if the block ended in another.
    """
    try:
        _RUNTIME_CONTEXT.detach(token)
    except (ValueError, RuntimeError):  # of another context; used already
        if attached is not None and get_current() is attached:
            before = token.old_value
            attach(Context() if before is Token.MISSING else cast("Context", before))
        return False
    return True


def reset(variable: ContextVar[T], token: "Token[T]") -> None:
    """Restore a variable, unless the block that set it ends in another context."""
    try:
        variable.reset(token)
    except ValueError:  # a coroutine that is thrown away is closed wherever that happens
        return

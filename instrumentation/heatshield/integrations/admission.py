"""The step right before a handler, whatever the protocol: the call is admitted, or refused.

Integrations of servers name the user and the call, ask :func:`admit`, and answer a refusal in their
protocol: ``servers/refusal.py`` over HTTP, ``rpc/grpc_calls.py`` and ``rpc/thrift_field.py``.
"""

import math

from opentelemetry.trace import Span

from heatshield.breakers.deadline_exceeded import DeadlineExceeded, expiry_in
from heatshield.breakers.gate import GATE, PlaceInLine
from heatshield.context.deadline import TIME, Deadline
from heatshield.context.request import Request
from heatshield.rejection import UNAVAILABLE, BreakerOpen, refusal_in
from heatshield.tracing.failure import mark_rejected

__all__ = ["PlaceInLine", "Refusal", "admit", "admit_in_line", "refusal_behind"]

Refusal = BreakerOpen | DeadlineExceeded
"""Why a call is not run: a breaker is open for its user, or its caller has stopped waiting. Either
is a decision and no failure."""


def admit(
    request: Request,
    span: Span,
    call: str,
    deadline: Deadline | None = None,
    *,
    also: str = "",
    final: bool = True,
) -> Refusal | None:
    """Decide whether a call runs that can't wait; ``None`` lets it run.

    Args:
        request: with its user named; notes that its handler runs.
        span: the server span, which a rejection is marked on.
        call: as breakers name it.
        deadline: when its caller stops waiting, if that is known.
        also: another name of the same call.
        final: the handler is next, and not an application that may have routes of its own.
    """
    found = admit_in_line(request, span, call, deadline, also=also, final=final, most_wait_s=0.0)
    return None if isinstance(found, PlaceInLine) else found


def admit_in_line(
    request: Request,
    span: Span,
    call: str,
    deadline: Deadline | None = None,
    *,
    also: str = "",
    final: bool = True,
    most_wait_s: float = math.inf,
) -> Refusal | PlaceInLine | None:
    """The same for a call that can wait: a paced user's may get a place in line.

    It waits then, without a thread, and is run or refused by what :meth:`PlaceInLine.wait` says.
    """
    if deadline is not None:
        most_wait_s = max(0.0, min(most_wait_s, deadline.at - TIME.monotonic()))
    found = GATE.admission(call, request.user, most_wait_s, request)
    if also and not isinstance(found, BreakerOpen):
        found = _stricter(found, GATE.admission(also, request.user, most_wait_s, request))
    if isinstance(found, BreakerOpen):
        mark_rejected(span, found.entry_id)
        found.at_call = found.status == UNAVAILABLE
        return found
    if deadline is not None and deadline.at <= TIME.monotonic():
        return DeadlineExceeded()
    request.entered = final
    return found


def _stricter(
    found: PlaceInLine | None, other: BreakerOpen | PlaceInLine | None
) -> BreakerOpen | PlaceInLine | None:
    """Of what two names of one call get the refusal, or the longer wait; the rest is given back."""
    if other is None or found is None:
        return other or found
    if isinstance(other, PlaceInLine) and other.delay_s <= found.delay_s:
        found, other = other, found
    found.leave()
    return other


def refusal_behind(error: BaseException) -> Refusal | None:
    """The refusal that an error is or stands for; ``None`` for any other error."""
    return refusal_in(error) or expiry_in(error)

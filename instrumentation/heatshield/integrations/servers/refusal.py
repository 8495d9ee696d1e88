"""A refusal over HTTP: one status, one set of headers and one body for every framework."""

import json
from typing import NamedTuple

from opentelemetry.trace import get_current_span

from heatshield.breakers.deadline_exceeded import EXPIRED_STATUS
from heatshield.context.request import request_in
from heatshield.integrations.admission import Refusal, refusal_behind
from heatshield.rejection import BreakerOpen
from heatshield.tracing.failure import mark_rejected

__all__ = ["HttpAnswer", "answer_to", "http_answer"]


class HttpAnswer(NamedTuple):
    """What a refused request is answered with: 503 or 429 if rejected, 504 without time left."""

    status: int
    headers: dict[str, str]
    body: bytes


def http_answer(refusal: Refusal) -> HttpAnswer:
    """The answer to a refused request; marks a rejection on its server span."""
    status = EXPIRED_STATUS
    if isinstance(refusal, BreakerOpen):
        status = refusal.status
        request = request_in()
        span = request.span if request is not None else get_current_span()
        mark_rejected(span, refusal.entry_id)
    body = json.dumps({"detail": str(refusal)}).encode()
    return HttpAnswer(status, {**refusal.headers, "content-type": "application/json"}, body)


def answer_to(error: BaseException) -> HttpAnswer | None:
    """The answer to an error that is or stands for a refusal; ``None`` to any other."""
    refusal = refusal_behind(error)
    return None if refusal is None else http_answer(refusal)

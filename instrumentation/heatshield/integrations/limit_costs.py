"""Tells declared limits on busy time, elements and bytes what calls have cost."""

import math
from typing import cast

from heatshield.breakers.gate import GATE
from heatshield.counters import fail_open
from heatshield.declared_limit import LimitUnit
from heatshield.names import CALL, COST_BYTES, COST_ELEMENTS, REJECTED, USER_ATTRIBUTES, WAITED_US
from heatshield.tracing.span import ENTRY_KINDS, EndedSpan, Span

__all__ = ["note_costs"]


@fail_open("limits", None)
def note_costs(span: EndedSpan) -> None:
    """Note what a span that ended has cost its user on its call, where a limit is on costs.

    A call's busy time is that of its server span, without what it waited for its turn. A call that
    was refused before its handler costs nothing, or else a user who asks again and again would
    never be below a limit.
    """
    if not GATE.counts_costs:
        return
    attributes = span.raw_attributes if type(span) is Span else span.attributes or {}
    if REJECTED in attributes and not _has_run(span):
        return
    busy_s = 0.0
    if span.kind in ENTRY_KINDS:
        waited_s = _number(attributes.get(WAITED_US)) / 1e6
        busy_s = max(0, (span.end_time or 0) - (span.start_time or 0)) / 1e9 - waited_s
    amounts = {
        LimitUnit.BUSY: busy_s,
        LimitUnit.ELEMENTS: _number(attributes.get(COST_ELEMENTS)),
        LimitUnit.BYTES: _number(attributes.get(COST_BYTES)),
    }
    if any(amount > 0 for amount in amounts.values()):
        user, call = _of(span)
        GATE.spent(user, call, amounts)


def _has_run(span: EndedSpan) -> bool:
    """Whether the handler of a call has begun; not known of a span of the service's own SDK."""
    request = span.request if type(span) is Span else None
    return request is not None and request.entered


def _number(value: object) -> float:
    """What an attribute says, which a service may have set to anything."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(cast("float", value)) if is_number else 0.0


def _of(span: EndedSpan) -> tuple[str | None, str]:
    """The user and the call that a span is charged to."""
    if type(span) is Span:
        return span.user, span.call
    attributes = span.attributes or {}
    users = (attributes.get(name) for name in USER_ATTRIBUTES)
    user = next((str(one) for one in users if one), None)
    return user, str(attributes.get(CALL) or span.name)

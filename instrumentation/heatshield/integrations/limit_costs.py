"""Tells declared limits on busy time, elements and bytes what calls have cost."""

from typing import cast

from heatshield.breakers.gate import GATE
from heatshield.declared_limit import LimitUnit
from heatshield.names import CALL, COST_BYTES, COST_ELEMENTS, USER_ATTRIBUTES, WAITED_US
from heatshield.tracing.span import ENTRY_KINDS, EndedSpan, Span

__all__ = ["note_costs"]


def note_costs(span: EndedSpan) -> None:
    """Note what a span that ended has cost its user on its call, where a limit is on costs.

    A call's busy time is that of its server span, without what it waited for its turn.
    """
    if not GATE.counts_costs:
        return
    attributes = span.raw_attributes if type(span) is Span else span.attributes or {}
    busy_s = 0.0
    if span.kind in ENTRY_KINDS:
        waited_us = cast("int", attributes.get(WAITED_US, 0))
        busy_s = max(0, (span.end_time or 0) - (span.start_time or 0)) / 1e9 - waited_us / 1e6
    amounts = {
        LimitUnit.BUSY: busy_s,
        LimitUnit.ELEMENTS: float(cast("int", attributes.get(COST_ELEMENTS, 0))),
        LimitUnit.BYTES: float(cast("int", attributes.get(COST_BYTES, 0))),
    }
    if any(amount > 0 for amount in amounts.values()):
        user, call = _of(span)
        GATE.spent(user, call, amounts)


def _of(span: EndedSpan) -> tuple[str | None, str]:
    """The user and the call that a span is charged to."""
    if type(span) is Span:
        return span.user, span.call
    attributes = span.attributes or {}
    users = (attributes.get(name) for name in USER_ATTRIBUTES)
    user = next((str(one) for one in users if one), None)
    return user, str(attributes.get(CALL) or span.name)

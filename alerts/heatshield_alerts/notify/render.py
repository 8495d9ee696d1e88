"""Notices in words."""

import math
from dataclasses import replace
from typing import Final

from heatshield_alerts.notify.notice import Message, Notice
from heatshield_alerts.notify.plain_text import MAX_SENTENCE, quoted, unmarked
from heatshield_alerts.rules.number import humanize
from heatshield_alerts.rules.track import ALERT_NAME
from heatshield_alerts.series import Labels

__all__ = ["HARM", "WHY", "RenderStage", "render"]

MAX_TRACES: Final = 3
"""Requests a message names: enough to look at, short enough for a telephone."""

WHY: Final = "why"
"""Annotation that detection adds: why, in one sentence."""

HARM: Final = "harm"
"""Annotation that detection adds: who suffers, and how, in one sentence."""

_SHOWN: Final = ("user", "service", "call")


def _annotation(text: str, labels: Labels) -> str:
    """An annotation. Its links are the rule's, but for those in the labels that it quotes."""
    for value in labels.values():
        if "://" in value:
            text = text.replace(value, quoted(value))
    return unmarked(text)


def render(notice: Notice, public_url: str = "") -> Message:
    """Title and body.

    Args:
        notice: what to tell.
        public_url: where people reach the collector, for links; without it, trace ids alone.
    """
    labels = notice.alert.labels
    subject = " ".join(quoted(labels[name]) for name in _SHOWN if name in labels)
    outcome = notice.alert.outcome
    status = notice.status.upper() + (f": {outcome.kind}" if outcome else "")
    title = f"[{status}] {notice.alert.rule}: {subject}".rstrip(": ")
    annotations = notice.alert.annotations
    told = [annotations[key] for key in ("summary", "description") if key in annotations]
    lines = [f"done: {outcome.text}"] if outcome else []
    lines += [
        f"{key}: {quoted(annotations[key], MAX_SENTENCE)}"
        for key in (WHY, HARM)
        if key in annotations
    ]
    lines += [_annotation(text, labels) for text in told]
    lines += [f"{name}: {quoted(value)}" for name, value in labels.pairs if name != ALERT_NAME]
    if not math.isnan(notice.alert.value):
        lines.append(f"load: {humanize(notice.alert.value)}")
    base = public_url.rstrip("/")
    for trace_id in notice.trace_ids[:MAX_TRACES]:
        where = f" {base}/api/requests/{trace_id}" if base else ""
        lines.append(f"request: {quoted(trace_id)}{where}")
    if base:
        lines.append(f"alerts: {base}/api/alerts")
    return Message(title, "\n".join(lines))


class RenderStage:
    """Puts the message into the notice."""

    def __init__(self, public_url: str = "") -> None:
        self._public_url = public_url

    def run(self, notice: Notice) -> Notice:
        """Render it."""
        return replace(notice, message=render(notice, self._public_url))

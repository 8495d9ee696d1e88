"""Notices in words."""

import re
from dataclasses import replace
from typing import Final

from heatshield_alerts.notify.notice import Message, Notice
from heatshield_alerts.rules.number import humanize
from heatshield_alerts.rules.track import ALERT_NAME

__all__ = ["RenderStage", "render"]

MAX_TRACES: Final = 3
"""Requests a message names: enough to look at, short enough for a telephone."""

MAX_FIELD: Final = 200
"""Characters of a label shown; user ids come from outside."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
_SHOWN: Final = ("user", "service", "call")


def _shown(text: str) -> str:
    """A text from outside on one line: a user id can't forge a line of its own."""
    line = _CONTROL.sub(" ", text)
    return line if len(line) <= MAX_FIELD else f"{line[: MAX_FIELD - 1]}…"


def render(notice: Notice, public_url: str = "") -> Message:
    """Title and body.

    Args:
        notice: what to tell.
        public_url: where people reach the collector, for links; without it, trace ids alone.
    """
    labels = notice.alert.labels
    subject = " ".join(_shown(labels[name]) for name in _SHOWN if name in labels)
    title = f"[{notice.status.upper()}] {notice.alert.rule}: {subject}".rstrip(": ")
    annotations = notice.alert.annotations
    lines = [_shown(annotations[key]) for key in ("summary", "description") if key in annotations]
    lines += [f"{name}: {_shown(value)}" for name, value in labels.pairs if name != ALERT_NAME]
    lines.append(f"load: {humanize(notice.alert.value)}")
    base = public_url.rstrip("/")
    for trace_id in notice.trace_ids[:MAX_TRACES]:
        where = f" {base}/api/requests/{trace_id}" if base else ""
        lines.append(f"request: {_shown(trace_id)}{where}")
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

"""Notifications of alerts: a pipeline of stages, off the event loop."""

from heatshield_alerts.notify.dedup import DedupReason, judge
from heatshield_alerts.notify.deliver import AppriseSender, DeliveryError, NotifyConfigError, Sender
from heatshield_alerts.notify.notice import Message, Notice, Stage, Status
from heatshield_alerts.notify.pipeline import Counts, Notifier
from heatshield_alerts.notify.render import HARM, WHY, render
from heatshield_alerts.notify.retry import RetryPolicy
from heatshield_alerts.notify.targets import read_targets

__all__ = [
    "HARM",
    "WHY",
    "AppriseSender",
    "Counts",
    "DedupReason",
    "DeliveryError",
    "Message",
    "Notice",
    "Notifier",
    "NotifyConfigError",
    "RetryPolicy",
    "Sender",
    "Stage",
    "Status",
    "judge",
    "read_targets",
    "render",
]

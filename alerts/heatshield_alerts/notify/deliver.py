"""Delivery to one target through apprise: 100+ services, ``json://host/path`` for a webhook.

A webhook gets a POST of ``{"version", "title", "message", "type", "attachments"}``, where ``type``
is ``failure`` for firing and ``success`` for resolved. Apprise URLs carry secrets: no message and
no error here repeats one, and apprise's own log, which would, is silenced.
"""

import logging
from typing import Protocol

from heatshield_alerts.notify.notice import Message, Status

__all__ = ["AppriseSender", "DeliveryError", "NotifyConfigError", "Sender"]


class NotifyConfigError(ValueError):
    """A target that apprise does not understand; names its scheme."""


class DeliveryError(Exception):
    """The target did not take the message."""


class Sender(Protocol):
    """Takes a message to a target."""

    def send(self, message: Message, status: Status) -> None:
        """Deliver, blocking.

        Raises:
            DeliveryError: if the target did not take it.
        """
        ...


class AppriseSender:
    """One apprise URL.

    Args:
        url: the target.

    Raises:
        NotifyConfigError: if apprise does not understand it.
    """

    def __init__(self, url: str) -> None:
        import apprise  # a tenth of a second to import, and only for those who notify

        # It logs whole URLs: "Unparseable Telegram URL tgram://TOKEN/", and paths at debug level.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        self.scheme = url.partition("://")[0] if "://" in url else "?"
        self._types = {
            Status.FIRING: apprise.NotifyType.FAILURE,
            Status.RESOLVED: apprise.NotifyType.SUCCESS,
        }
        self._text = apprise.NotifyFormat.TEXT
        # A redirect would take the secret in the URL, and what users do, to an address that nobody
        # configured.
        self._target = apprise.Apprise(asset=apprise.AppriseAsset(http_redirects=False))
        if not self._target.add(url):
            raise NotifyConfigError(f"apprise does not understand a notify URL ({self.scheme}://…)")

    def send(self, message: Message, status: Status) -> None:
        """Deliver, blocking for apprise's own time-outs at most (4 s to connect, 4 s to read).

        Raises:
            DeliveryError: if the target did not take it.
        """
        taken = self._target.notify(
            body=message.body,
            title=message.title,
            notify_type=self._types[status],
            body_format=self._text,
        )
        if not taken:
            raise DeliveryError(f"a {self.scheme}:// target did not take the message")

"""A refusal over ASGI: sent in answer, whether a guard refused or an error stands for a refusal."""

from typing import Final

from heatshield.integrations.admission import Refusal, refusal_behind
from heatshield.integrations.servers.asgi import KINDS
from heatshield.integrations.servers.asgi_types import App, Message, Receive, Scope, Send
from heatshield.integrations.servers.refusal import http_answer

__all__ = ["Refusals", "send_refusal"]

TRY_AGAIN_LATER: Final = 1013
"""WebSocket close code of RFC 6455's registry."""


class Refusals:
    """Answers an error from within that is or stands for a refusal: a rejection, an expiry.

    Args:
        app: what is within.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in KINDS:
            await self.app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except Exception as error:
            refusal = refusal_behind(error)
            if refusal is None or started:
                raise
            await send_refusal(refusal, scope, send)


async def send_refusal(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Send the answer to a refused request; a WebSocket is closed before it is accepted."""
    answer = http_answer(refusal)
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        prefix = "websocket.http"
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": answer.status,
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": answer.body})

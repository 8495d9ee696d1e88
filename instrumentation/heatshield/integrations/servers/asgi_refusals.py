"""A request over ASGI that is refused, or came too late, and how that is answered."""

import json
from typing import Final

from opentelemetry.trace import get_current_span

from heatshield.breakers.expiry import EXPIRED_STATUS, DeadlineExceeded, expiry_in
from heatshield.breakers.gate import mark_rejected
from heatshield.context.request import request_in
from heatshield.integrations.servers.asgi import KINDS, App, Message, Receive, Scope, Send
from heatshield.rejection import UNAVAILABLE, BreakerOpen, refusal_in

__all__ = ["Refusals", "answer"]

TRY_AGAIN_LATER: Final = 1013
"""WebSocket close code of RFC 6455's registry."""


class Refusals:
    """Answers a :class:`BreakerOpen` that comes from within with the rejection it stands for, and
    a :class:`DeadlineExceeded` with the expiry.
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
            refusal = refusal_in(error) or expiry_in(error)
            if refusal is None or started:
                raise
            await answer(refusal, scope, send)


async def answer(refusal: BreakerOpen | DeadlineExceeded, scope: Scope, send: Send) -> None:
    """503 with the marks of a rejection, or 504; a WebSocket is closed before it is accepted."""
    status = EXPIRED_STATUS
    if isinstance(refusal, BreakerOpen):
        status = UNAVAILABLE
        request = request_in()
        mark_rejected(request.span if request is not None else get_current_span(), refusal.entry_id)
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        prefix = "websocket.http"
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = {
        **refusal.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": body})

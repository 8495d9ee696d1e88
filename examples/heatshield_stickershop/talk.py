"""Talk: accepts messages. One with a sticker asks capability whether the sender owns it."""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel

import heatshield
from heatshield_stickershop import peer

__all__ = ["create_app"]

log = structlog.get_logger()


class Message(BaseModel):
    """A message from one user to another, perhaps with a sticker."""

    sender: str
    to: str
    text: str
    sticker: str | None = None


class Accepted(BaseModel):
    """The id of a message that will be delivered."""

    id: str


@asynccontextmanager
async def _peers(app: FastAPI) -> AsyncIterator[None]:
    async with peer.connect(os.environ["STICKERSHOP_CAPABILITY_URL"]) as capability:
        app.state.capability = capability
        yield


def create_app() -> FastAPI:
    """Build the service, for ``uvicorn --factory``."""
    heatshield.instrument(service="talk")
    app = FastAPI(title="talk", lifespan=_peers)
    peer.answer_failures(app)

    @app.post("/messages", status_code=202)
    async def accept(message: Message, request: Request) -> Accepted:
        if message.sticker is not None:
            path = f"/owns/{message.sender}/{message.sticker}"
            answer = await peer.send(request.app.state.capability, "GET", path)
            if not answer.json()["owns"]:
                log.warning("sticker refused", sticker=message.sticker)
                raise HTTPException(403, "the sender does not own this sticker")
        return Accepted(id=uuid.uuid4().hex)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app

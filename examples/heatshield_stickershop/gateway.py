"""Gateway: reads the user from ``x-user-id`` and routes requests to talk and shop."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import FastAPI, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel

import heatshield
from heatshield_stickershop import peer

__all__ = ["create_app"]

UserId = Annotated[str, Header(alias="x-user-id")]


class Message(BaseModel):
    """A message from one user to another, perhaps with a sticker."""

    to: str
    text: str
    sticker: str | None = None


@asynccontextmanager
async def _peers(app: FastAPI) -> AsyncIterator[None]:
    async with (
        peer.connect(os.environ["STICKERSHOP_TALK_URL"]) as talk,
        peer.connect(os.environ["STICKERSHOP_SHOP_URL"]) as shop,
    ):
        app.state.talk, app.state.shop = talk, shop
        yield


def create_app() -> FastAPI:
    """Build the service, for ``uvicorn --factory``."""
    heatshield.instrument(service="gateway", user_header="x-user-id")
    app = FastAPI(title="gateway", lifespan=_peers)
    peer.answer_failures(app)

    @app.post("/messages")
    async def send_message(message: Message, user: UserId, request: Request) -> Response:
        body = {"sender": user, **message.model_dump()}
        return _relay(await peer.send(request.app.state.talk, "POST", "/messages", body))

    @app.post("/stickers/{sticker}/purchase")
    async def purchase(sticker: str, user: UserId, request: Request) -> Response:
        body = {"user": user, "sticker": sticker}
        return _relay(await peer.send(request.app.state.shop, "POST", "/purchases", body))

    @app.post("/stickers/{sticker}/picture")
    async def picture(sticker: str, user: UserId, request: Request) -> Response:
        body = {"user": user, "sticker": sticker}
        return _relay(await peer.send(request.app.state.shop, "POST", "/pictures", body))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _relay(answer: httpx.Response) -> Response:
    kind = answer.headers.get("content-type", "application/json")
    return Response(answer.content, answer.status_code, media_type=kind)

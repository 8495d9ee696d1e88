"""Capability: answers whether a user owns a sticker, from the sets in Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
from fastapi import FastAPI, Request
from pydantic import BaseModel

import heatshield
from heatshield_stickershop import ownership

__all__ = ["create_app"]


class Answer(BaseModel):
    """Whether the user owns the sticker."""

    owns: bool


@asynccontextmanager
async def _cache(app: FastAPI) -> AsyncIterator[None]:
    async with redis.asyncio.from_url(os.environ["STICKERSHOP_REDIS_URL"]) as cache:
        app.state.cache = cache
        yield


def create_app() -> FastAPI:
    """Build the service, for ``uvicorn --factory``."""
    heatshield.instrument(service="capability")
    app = FastAPI(title="capability", lifespan=_cache)

    @app.get("/owns/{user}/{sticker}")
    async def owns(user: str, sticker: str, request: Request) -> Answer:
        return Answer(owns=await ownership.owns(request.app.state.cache, user, sticker))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app

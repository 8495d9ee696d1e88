"""Shop: sells stickers. Each purchase refreshes the buyer's whole ownership set in Redis."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import redis.asyncio
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel

import heatshield
from heatshield_stickershop import ownership
from heatshield_stickershop.picture import draw

__all__ = ["create_app"]

log = structlog.get_logger()


class Order(BaseModel):
    """A user buys a sticker. Ordering the same one twice buys it once."""

    user: str
    sticker: str


class Receipt(BaseModel):
    """The number of stickers that the user owns now."""

    owned: int


class Picture(BaseModel):
    """A user looks at a sticker."""

    user: str
    sticker: str


@asynccontextmanager
async def _stores(app: FastAPI) -> AsyncIterator[None]:
    with closing(ownership.open_database(Path(os.environ["STICKERSHOP_DATABASE"]))) as database:
        async with redis.asyncio.from_url(os.environ["STICKERSHOP_REDIS_URL"]) as cache:
            app.state.database, app.state.cache = database, cache
            yield


def create_app() -> FastAPI:
    """Build the service, for ``uvicorn --factory``."""
    heatshield.instrument(service="shop")
    app = FastAPI(title="shop", lifespan=_stores)

    @app.post("/purchases", status_code=201)
    async def purchase(order: Order, request: Request) -> Receipt:
        stores = request.app.state
        ownership.add(stores.database, order.user, order.sticker)
        stickers = ownership.owned_by(stores.database, order.user)
        heatshield.cost(rows=len(stickers))
        await ownership.refresh(stores.cache, order.user, stickers)
        log.info("sticker bought", sticker=order.sticker, owned=len(stickers))
        return Receipt(owned=len(stickers))

    @app.post("/pictures")
    def picture(wanted: Picture) -> Response:
        return Response(draw(wanted.sticker), media_type="image/png")

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app

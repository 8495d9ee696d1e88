"""A small service whose one call costs what its user owns; the enforcement benchmark runs two."""

import hashlib
from typing import Annotated

from fastapi import FastAPI, Header

import heatshield

__all__ = ["CALL", "HOT_PREFIX", "SERVICE", "create_app"]

SERVICE = "burner"
CALL = "POST /digests"
HOT_PREFIX = "hot-"

USUAL_ITEMS = 500
HOT_ITEMS = 60_000
"""Hashing an item takes about a microsecond, so a hot user's request takes some 60 ms."""


def create_app() -> FastAPI:
    """The service, for ``uvicorn --factory``."""
    heatshield.instrument(service=SERVICE, user_header="x-user-id")
    app = FastAPI(title=SERVICE)

    @app.post("/digests")
    async def digests(x_user_id: Annotated[str, Header()]) -> dict[str, str]:
        items = HOT_ITEMS if x_user_id.startswith(HOT_PREFIX) else USUAL_ITEMS
        digest = b""
        for item in range(items):
            digest = hashlib.sha256(digest + item.to_bytes(4, "big")).digest()
        return {"digest": digest.hex()}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app

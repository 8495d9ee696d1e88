"""A service that limits are declared for; ``python limit_shop.py PORT ENDPOINT``."""

import sys

import uvicorn
from fastapi import FastAPI

import heatshield

app = FastAPI()


@app.get("/work")
async def work() -> str:
    """Answers."""
    return "done"


if __name__ == "__main__":
    heatshield.instrument(service="shop", endpoint=sys.argv[2], user_header="x-user-id")
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)

"""What jobs of the tests do; workers find these functions by their name."""

import redis

import heatshield
from heatshield.context.request import request_in

SEEN = []


def export(stickers, *, port=0):
    request = request_in()
    SEEN.append(None if request is None else request.user)
    if port:
        redis.Redis(port=port).sadd("exported", *stickers)
    return len(stickers)


def failing():
    raise LookupError("no such sticker")


def guarded():
    with heatshield.guard("export.rows"):
        SEEN.append("rows")


def enqueueing(port):
    from rq import Queue

    return Queue("second", connection=redis.Redis(port=port)).enqueue(export, ["cap"]).id


def complain(job, connection, kind, error, trace):
    SEEN.append(kind)


async def slowly():
    request = request_in()
    SEEN.append(request.user)

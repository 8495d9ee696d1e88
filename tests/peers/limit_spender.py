"""One instance that spends what limits allow; ``python limit_spender.py NUMBER ENDPOINT``.

Without a server, so that many calls cost little. It says ``ready`` once it has limits, takes a line
of JSON with streams of calls and the epoch second to begin at, and answers with a line of JSON.
"""

import heapq
import json
import random
import sys
import time

import heatshield
from heatshield.breakers.gate import GATE
from heatshield.context.request import Request
from heatshield.declared_limit import LimitUnit


def spend(streams: list[dict], begins: float, number: int) -> dict:
    """Calls at random times; a stream has ``rates`` by instance for each of its ``phases``."""
    chance = random.Random(number)
    found = {one["user"]: {"admitted": [], "refused": 0, "headers": {}} for one in streams}
    ends = begins + sum(streams[0]["phases"])
    queue = [(begins, index) for index in range(len(streams))]
    late_s = 0.0
    while queue:
        due, index = heapq.heappop(queue)
        stream = streams[index]
        rate = rate_at(stream, due - begins, number)
        after = due + (chance.expovariate(rate) if rate else 0.1)
        if after < ends:
            heapq.heappush(queue, (after, index))
        time.sleep(max(0.0, due - time.time()))
        if not rate or due == begins:
            continue
        late_s = max(late_s, time.time() - due)
        mine = found[stream["user"]]
        refusal = GATE.refusal(stream["call"], stream["user"], Request(call=stream["call"]))
        if refusal is not None:
            mine["refused"] += 1
            mine["headers"] = refusal.headers
            continue
        mine["admitted"].append(time.time() - begins)
        if stream["unit"] != "requests":
            unit = LimitUnit(stream["unit"])
            GATE.spent(stream["user"], stream["call"], {unit: stream["amount"]})
    return {"found": found, "late_s": late_s}


def rate_at(stream: dict, at_s: float, number: int) -> float:
    """Calls a second of a stream at this instance."""
    for seconds, rates in zip(stream["phases"], stream["rates"], strict=True):
        if at_s < seconds:
            return rates[number]
        at_s -= seconds
    return 0.0


if __name__ == "__main__":
    own = int(sys.argv[1])
    heatshield.instrument(service="limited", endpoint=sys.argv[2])
    while not GATE.watches():
        with heatshield.guard("begin"):
            time.sleep(0.05)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    asked = json.loads(sys.stdin.readline())
    sys.stdout.write(json.dumps(spend(asked["streams"], asked["begins"], own)) + "\n")

"""The same charges give the same findings, in any process."""

import json
import os
import subprocess
import sys

_FOUND = """
import json, sys
from charge_rows import Traffic
from heatshield.clock import Instant
from heatshield_collector.detect import PANE_S, Detection
from heatshield_collector.link import Linked

traffic, detection, found = Traffic(1.0, seed=5, users=300, rate=40_000.0, load=1e3), None, []
detection = Detection(lambda _: 1.0)
for step in range(8):
    at = Instant(1_000 + step * PANE_S, step)
    detection.observe(Linked.of_charges(traffic.requests(PANE_S)), at)
    found.append([repr(one) for one in detection.evaluate(at)])
    found.append(repr(detection.loads.top("calls", "1s", 50, at.monotonic_s)))
json.dump(found, sys.stdout)
"""


def test_detection_finds_the_same_in_processes_that_hash_texts_differently():
    """With so many costly requests a sixth of them share a counter of the clip; which ones must not
    vary, or the loads that findings tell of would.
    """
    told = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", _FOUND], env=env, stdout=subprocess.PIPE, check=True
        )
        told.add(run.stdout)
    (found,) = told
    assert any(json.loads(found)[::2])

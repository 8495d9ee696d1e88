"""A disk that takes no more: appends fail whole, and succeed again when there is space."""

import json
import os
import subprocess
import sys

from heatshield_collector.store import DuckDBStore

# A file size limit stands for a full disk: it needs no rights, and is lifted again.
SCRIPT = """
import json, os, resource, signal, sys
from pathlib import Path
import pyarrow as pa
from span_rows import span, table
from heatshield_collector.model import AUDIT
from heatshield_collector.store import DuckDBStore, StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, stored = Path(sys.argv[1]), []
store = DuckDBStore(folder)

def append(number):
    rows = [span(number * 1_000 + row, attribute_values=os.urandom(64).hex()) for row in range(500)]
    try:
        store.append({"spans": table(rows)})
    except StoreError:
        return False
    stored.extend(number * 1_000 + row for row in range(500))
    return True

def record(number):
    row = {"at_ns": number, "change": "opened", "entry_id": str(number), "issuer": "human:a",
           "reason": os.urandom(100_000).hex(), "version": "1.1", "entry": "{}"}
    audit = pa.Table.from_pylist([row], schema=AUDIT)
    try:
        store.record({"audit": audit})
    except StoreError:
        return False
    return True

limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
said = [append(1)]
used = max(path.stat().st_size for path in folder.iterdir())
limit(used + 50_000)
said += [append(number) for number in (2, 3, 4)]
recorded = [record(1), record(2)]
limit(resource.RLIM_INFINITY)
said += [append(number) for number in (5, 6)]
recorded += [record(3)]
if sys.argv[2] == "close":
    store.close()
print(json.dumps({"said": said, "stored": stored, "recorded": recorded}), flush=True)
os._exit(0)
"""


def run(folder, end):
    oracle = os.pathsep.join(path for path in sys.path if path.endswith("oracle"))
    output = subprocess.check_output(
        [sys.executable, "-c", SCRIPT, folder, end],
        env={**os.environ, "PYTHONPATH": oracle},
        timeout=60,
    )
    return json.loads(output)


def test_what_was_acknowledged_before_and_after_a_full_disk_is_there_and_nothing_else(tmp_path):
    """Whether the store was closed or just vanished afterwards."""
    for end in ("close", "vanish"):
        folder = tmp_path / end
        told = run(folder, end)
        assert told["said"] == [True, False, False, False, True, True]
        store = DuckDBStore(folder)
        assert told["recorded"] == [False, False, True]
        assert [row["entry_id"] for row in store.recent("audit", 10)] == ["3"]
        rows = store._database.select("SELECT span_id FROM spans")
        store.close()
        assert sorted(int.from_bytes(row[0], "big") for row in rows) == told["stored"]

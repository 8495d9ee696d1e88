"""A running pipeline over a store and charges that can fail or be held up."""

import asyncio
import threading
import time
from dataclasses import replace

from heatshield.clock import SystemClock
from heatshield_collector.intake.formats import FORMATS
from heatshield_collector.intake.payload import Payload
from heatshield_collector.link import Linker
from heatshield_collector.pipeline import Pipeline

MIB = 2**20


class MemoryStore:
    """Keeps transactions; fails while it is told to; ``gate`` holds up the writing thread."""

    def __init__(self):
        self.transactions = []
        self.errors = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.on_append = lambda: None

    def append(self, tables):
        self.entered.set()
        assert self.gate.wait(30)
        self.on_append()
        if self.errors:
            raise self.errors.pop(0)
        self.transactions.append(tables)

    def rows(self, table="spans"):
        """Ids of what is stored, as numbers."""
        return sorted(
            int.from_bytes(row, "big")
            for tables in self.transactions
            for row in (tables[table].column("trace_id").to_pylist() if table in tables else [])
        )


class Charges:
    """Links for real; fails while it is told to."""

    def __init__(self):
        self.linker = Linker()
        self.error = None
        self.count_error = None
        self.counted = []

    def charge(self, spans, now):
        if self.error:
            raise self.error
        return self.linker.link(spans, now).parts

    def settle(self, now):
        pass

    def not_stored(self, spans):
        self.linker.not_stored(spans)

    def committed(self, rows, seconds):
        if self.count_error:
            raise self.count_error
        assert seconds >= 0
        self.counted.append((rows.get("spans", 0), rows.get("logs", 0)))


class Rig:
    """A running pipeline over parts that can fail; ``decoders`` has the formats' by signal."""

    def __init__(self, store=None, queue_bytes=MIB):
        self.store = store or MemoryStore()
        self.charges = Charges()
        self.decoders = {form.signal: form.decode for form in FORMATS}
        formats = [replace(form, decode=self._decoder(form.signal)) for form in FORMATS]
        self.loop = Pipeline(self.store, self.charges, formats, SystemClock(), queue_bytes)

    def _decoder(self, signal):
        def decode(bodies, received_ns):
            return self.decoders[signal](bodies, received_ns)

        return decode

    def run(self, test):
        """Run a coroutine function beside the commit threads; they end with it."""
        self.loop.start()
        try:
            return asyncio.run(asyncio.wait_for(test(), 60))
        finally:
            if isinstance(self.store, MemoryStore):
                self.store.gate.set()
            self.loop.stop()
            assert not self.loop.alive
            assert self.loop.queued_bytes == 0

    def submit(self, body, signal="traces"):
        return asyncio.ensure_future(self.loop.submit(Payload(signal, body)))

    async def gathered(self, *tasks):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition):
    """Leave the event loop to others until something holds."""

    def poll():
        while not condition():
            time.sleep(0.001)

    await asyncio.to_thread(poll)

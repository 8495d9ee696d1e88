"""The second stage: decodes a group jointly, and charges its spans before the disk has them.

When a joint decode fails, the malformed payloads alone are refused and the others are decoded.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import pyarrow as pa

from heatshield.clock import Instant
from heatshield_collector.decode import DecodeError, most_members
from heatshield_collector.intake.formats import Format
from heatshield_collector.intake.payload import MalformedError, OverloadedError, Payload
from heatshield_collector.link.requests import unlinked_parts
from heatshield_collector.pipeline.group import BUSY_RETRY_S, Charges, Group, Release, Waiting

__all__ = ["GroupDecoder"]

MAX_JOINT_MEMBERS: Final = 2_000_000
"""Most members (records, attributes, events and so on) of payloads that are decoded at once, as
their bytes show it: many small payloads must not take the memory that no large one may. It is more
than the payloads of a full group usually have."""

_LEAST_BYTES: Final = 2
"""Of a member on the wire."""

_log = logging.getLogger(__name__)


class GroupDecoder:
    """Turns payloads into a :class:`Group`.

    Args:
        formats: what payloads may be in.
        charges: handed the spans of each group.
        release: called before a payload is refused.
    """

    def __init__(self, formats: Iterable[Format], charges: Charges, release: Release) -> None:
        self._formats = {(form.name, form.signal): form for form in formats}
        self._charges = charges
        self._release = release

    def knows(self, payload: Payload) -> bool:
        """Whether the payload is in one of the formats."""
        return (payload.format, payload.signal) in self._formats

    def decode(self, taken: Sequence[Waiting], now: Instant) -> Group:
        """Decode and charge payloads taken at ``now``; malformed ones are refused at once.

        Args:
            taken: payloads that this decoder knows.
            now: when all of them count as received.
        """
        group = Group()
        rows: dict[Format, list[Waiting]] = {}
        for one in taken:
            form = self._formats[one.payload.format, one.payload.signal]
            rows.setdefault(form, []).append(one)
        # Spans are decoded and charged first: detection must not wait for metrics that came along.
        spans = [form for form in rows if form.signal == "traces"]
        for form in spans:
            self._decode_runs(rows.pop(form), form, now, group)
        decoded = group.joined("spans")
        if decoded is not None:
            group.put("request_parts", self._charge(decoded, now))
        for form, others in rows.items():
            self._decode_runs(others, form, now, group)
        return group

    def settle(self, now: Instant) -> None:
        """Settle charges that wait for later spans, though no payload has come."""
        try:
            self._charges.settle(now)
        except Exception:  # noqa: BLE001 - the pipeline goes on
            _log.exception("settling charges failed")

    def _decode_runs(self, rows: list[Waiting], form: Format, now: Instant, group: Group) -> None:
        """Decode jointly what together stays within bounds."""
        for run in _runs(rows):
            self._decode(run, form, now, group)

    def _decode(self, rows: list[Waiting], form: Format, now: Instant, group: Group) -> None:
        """Decode jointly; when that fails, refuse the malformed ones and decode the others."""
        try:
            decoded = form.decode([one.payload.body for one in rows], now.epoch_ns)
        except DecodeError as error:
            if error.bad or len(rows) == 1:
                bad = error.bad or {0: str(error)}
                self._release([rows[index] for index in bad])
                for index, reason in bad.items():
                    rows[index].ack.refuse(MalformedError(reason))
                rest = [[row for index, row in enumerate(rows) if index not in bad]]
            else:
                rest = [[row] for row in rows]
            for some in filter(None, rest):
                self._decode(some, form, now, group)
        except Exception:  # noqa: BLE001 - the senders are told, and the pipeline goes on
            _log.exception("decoding %d payloads failed", len(rows))
            self._release(rows)
            for one in rows:
                one.ack.refuse(OverloadedError(BUSY_RETRY_S, "the collector failed to decode this"))
        else:
            group.add(rows, decoded, form)

    def _charge(self, spans: pa.Table, now: Instant) -> pa.Table:
        try:
            return self._charges.charge(spans, now)
        except Exception:  # noqa: BLE001 - see below
            # Telemetry is kept even if it can't be charged: a bug there must not lose spans.
            _log.exception("charging a batch of %d spans failed", spans.num_rows)
            return unlinked_parts(spans, now.epoch_ns)


def _runs(rows: list[Waiting]) -> Iterator[list[Waiting]]:
    """The payloads in their order, in as few lists as the bound allows."""
    if sum(one.size for one in rows) <= MAX_JOINT_MEMBERS * _LEAST_BYTES:
        yield rows
        return
    run: list[Waiting] = []
    members = 0
    for one in rows:
        more = most_members(one.payload.body)
        if run and members + more > MAX_JOINT_MEMBERS:
            yield run
            run, members = [], 0
        run.append(one)
        members += more
    yield run

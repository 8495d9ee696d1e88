"""The simplest store that passes the protocols' suites: rows in lists, every question a loop."""

import difflib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from heatshield.call_key import CallKey
from heatshield.clock import Instant
from heatshield_collector.model import LOGS, TABLES, attributes_of
from heatshield_collector.store import (
    Baseline,
    FindingQuery,
    KeptMode,
    LogQuery,
    Operation,
    RequestQuery,
    Row,
    SampleQuery,
    SeriesQuery,
    StoreError,
)
from heatshield_collector.store.protocol import (
    INSTANCE_LABEL,
    JOURNALS,
    NAME_LABEL,
    SERVICE_LABEL,
)


def as_text(value: Any) -> str:
    """An attribute's value as people ask for it: bytes in hexadecimal, the rest as JSON has it."""
    if value is None:
        return ""
    if isinstance(value, dict) and value.keys() == {"bytes"}:
        return value["bytes"]
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class MemoryStore:
    """Implements ``heatshield_collector.store.Store`` in memory."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        self._kept: dict[str, dict[str, str]] = {}
        self._baselines: dict[CallKey, Baseline] = {}
        self._epoch = 0
        self._mode: KeptMode | None = None
        self._writing = threading.RLock()

    # -- telemetry -------------------------------------------------------------------------------

    def append(self, tables: Mapping[str, pa.Table]) -> None:
        rows = {}
        for name, table in tables.items():
            if name not in TABLES:
                raise StoreError(f"there is no table {name!r}")
            rows[name] = table.select(TABLES[name].names).to_pylist()
        with self._writing:
            for name, some in rows.items():
                self._rows[name] += some

    def requests(self, query: RequestQuery) -> Sequence[Row]:
        found = [
            summary
            for trace_id in {row["trace_id"] for row in self._rows["request_parts"]}
            if (summary := self._summary(trace_id, query)) is not None
        ]
        found.sort(key=lambda row: (-row["start_ns"], row["trace_id"]))
        return found[: query.limit]

    def _summary(self, trace_id: bytes, query: RequestQuery) -> Row | None:
        parts = [row for row in self._rows["request_parts"] if row["trace_id"] == trace_id]
        start_ns = min(row["start_ns"] for row in parts)
        if not query.since_ns <= start_ns <= query.until_ns:
            return None
        roots = [(row["service"], row["call"]) for row in parts if row["service"] is not None]
        spans = [row for row in self._rows["spans"] if row["trace_id"] == trace_id]
        summary = {
            "trace_id": trace_id,
            "start_ns": start_ns,
            "duration_ns": max(row["end_ns"] for row in parts) - start_ns,
            "user": self.user_of(trace_id)[0],
            **dict(zip(("service", "call"), min(roots, default=(None, None)), strict=True)),
            **{
                name: sum(row[name] for row in parts)
                for name in ("spans", "errors", "busy_ns", "elements")
            },
            "services": sorted({row["service"] for row in spans}),
        }
        fits = (
            query.min_duration_ns <= summary["duration_ns"]
            and (query.max_duration_ns is None or summary["duration_ns"] <= query.max_duration_ns)
            and query.user in (None, summary["user"])
            and (query.leave_out is None or summary["service"] != query.leave_out)
            and query.errors in (None, summary["errors"] > 0)
        )
        if query.service is not None or query.call is not None or query.attributes:
            fits = fits and any(
                query.service in (None, row["service"])
                and query.call in (None, row["name"])
                and self._has(row, query.attributes)
                for row in spans
            )
        return summary if fits else None

    def _has(self, row: Row, wanted: Mapping[str, str]) -> bool:
        own, resource = (
            {name: as_text(value) for name, value in attributes.items()}
            for attributes in (_attributes(row), self._resource_of(row))
        )
        return all(value in (own.get(name), resource.get(name)) for name, value in wanted.items())

    def _resource_of(self, row: Row) -> dict[str, Any]:
        found = [one for one in self._rows["resources"] if one["resource_id"] == row["resource_id"]]
        return _attributes(found[0]) if found else {}

    def spans_of(self, trace_id: bytes) -> Sequence[Row]:
        once: dict[Any, Row] = {}
        for row in sorted(self._rows["spans"], key=lambda row: row["received_ns"]):
            if row["trace_id"] == trace_id:
                once.setdefault((row["span_id"], row["kind"], row["service"]), row)
        found = [{**row, "resource": self._resource_of(row)} for row in once.values()]
        return sorted(
            found,
            key=lambda row: (
                row["start_ns"], -row["duration_ns"], row["span_id"], row["kind"], row["service"],
            ),
        )  # fmt: skip

    def logs_of(self, trace_id: bytes) -> Sequence[Row]:
        return self._logs_once([row for row in self._rows["logs"] if row["trace_id"] == trace_id])

    def logs(self, query: LogQuery) -> Sequence[Row]:
        found = self._logs_once(
            [
                row
                for row in self._rows["logs"]
                if query.since_ns <= row["time_ns"] <= query.until_ns
                and query.service in (None, row["service"])
                and query.user in (None, row["user"])
                and query.trace_id in (None, row["trace_id"])
                and row["severity"] >= query.min_severity
                and query.text.lower() in row["body"].lower()
                and self._has(row, query.attributes)
            ]
        )
        if query.newest_first:
            found.sort(key=lambda row: -row["time_ns"])
        return found[: query.limit]

    @staticmethod
    def _logs_once(rows: Sequence[Row]) -> list[Row]:
        first = ("time_ns", "span_id", "service", "body", "attribute_values")
        said = [*first, *(name for name in LOGS.names if name not in (*first, "received_ns"))]
        once: dict[Any, Row] = {}
        for row in sorted(rows, key=lambda row: row["received_ns"]):
            # as sorting wants it: what is absent comes last
            once.setdefault(tuple((row[name] is None, row[name] or "") for name in said), row)
        return [once[key] for key in sorted(once)]

    def newest_spans(self, limit: int) -> pa.Table:
        names = ("trace_id", "span_id", "kind", "service")
        newest = self._rows["spans"][max(0, len(self._rows["spans"]) - limit) :]
        columns = {name: [row[name] for row in newest] for name in names}
        return pa.table(columns, pa.schema([TABLES["spans"].field(name) for name in names]))

    def recorded_spans(self, since_ns: int, until_ns: int) -> Iterator[pa.Table]:
        ended = [
            row
            for row in self._rows["spans"]
            if since_ns <= row["start_ns"] + row["duration_ns"] <= until_ns
        ]
        if ended:
            yield pa.Table.from_pylist(ended, TABLES["spans"])

    def user_of(self, trace_id: bytes) -> tuple[str | None, int | None]:
        named = [
            (row["user_rank"], row["user"])
            for row in self._rows["request_parts"]
            if row["trace_id"] == trace_id and row["user"] is not None
        ]
        rank, user = min(named, default=(None, None))
        return user, rank

    def users_like(self, user: str, limit: int) -> Sequence[str]:
        users = sorted({row["user"] for row in self._rows["request_parts"] if row["user"]})
        users.sort(key=lambda one: -difflib.SequenceMatcher(None, one, user).ratio())
        return users[:limit]

    def services(self, since_ns: int, until_ns: int) -> Sequence[str]:
        return sorted({row["service"] for row in self._begun(since_ns, until_ns)})

    def operations(self, service: str, since_ns: int, until_ns: int) -> Sequence[Operation]:
        begun = self._begun(since_ns, until_ns)
        return sorted({Operation(r["name"], r["kind"]) for r in begun if r["service"] == service})

    def _begun(self, since_ns: int, until_ns: int) -> list[Row]:
        return [row for row in self._rows["spans"] if since_ns <= row["start_ns"] <= until_ns]

    # -- metrics ---------------------------------------------------------------------------------

    def latest_samples(self, query: SampleQuery) -> Sequence[Row]:
        found = []
        for series in self._all_series():
            samples = [
                row
                for row in self._rows["samples"]
                if row["series_id"] == series["series_id"] and row["received_ns"] >= query.since_ns
            ]
            if samples and query.name in (None, series["name"]):
                newest = min(samples, key=lambda row: (-row["time_ns"], row["received_ns"]))
                found.append({**series, **newest, "exemplars": _exemplars(samples)})
                del found[-1]["received_ns"]
        return [row for row in found if query.service in (None, row["service"])][: query.limit]

    def series(self, query: SeriesQuery) -> Sequence[Row]:
        found = []
        for series in self._all_series():
            once: dict[int, Row] = {}
            for row in sorted(self._rows["samples"], key=lambda row: row["received_ns"]):
                in_range = query.since_ns <= row["time_ns"] <= query.until_ns
                if row["series_id"] == series["series_id"] and in_range:
                    once.setdefault(row["time_ns"], row)
            labels = _labels(series)
            fits = all(one.matches(labels.get(one.name, "")) for one in query.matchers)
            if once and fits:
                found.append({**series, "samples": [row for _, row in sorted(once.items())]})
        return found[: query.limit]

    def _all_series(self) -> list[Row]:
        once = {row["series_id"]: row for row in reversed(self._rows["series"])}
        return sorted(
            once.values(),
            key=lambda row: (
                row["name"], row["service"], row["attribute_values"], row["instance"],
                row["series_id"],
            ),
        )  # fmt: skip

    def label_names(self, since_ns: int, until_ns: int) -> Sequence[str]:
        rows = self.series(SeriesQuery(since_ns, until_ns, limit=10**9))
        return sorted({name for row in rows for name in _labels(row)})

    def label_values(self, name: str, since_ns: int, until_ns: int) -> Sequence[str]:
        rows = self.series(SeriesQuery(since_ns, until_ns, limit=10**9))
        return sorted({value for row in rows if (value := _labels(row).get(name, ""))})

    # -- control state ---------------------------------------------------------------------------

    def record(self, journals: Mapping[str, pa.Table]) -> None:
        if not set(journals) <= set(JOURNALS):
            raise StoreError(f"{min(set(journals) - set(JOURNALS))!r} is not a journal")
        with self._writing:
            self.append(journals)

    def keep(self, kind: str, changed: Mapping[str, str | None]) -> None:
        with self._writing:
            kept = {**self._kept.get(kind, {}), **changed}
            self._kept[kind] = {key: text for key, text in kept.items() if text is not None}

    def kept(self, kind: str) -> Mapping[str, str]:
        return dict(sorted(self._kept.get(kind, {}).items()))

    def recent(self, table: str, limit: int) -> Sequence[Row]:
        if table not in JOURNALS:
            raise StoreError(f"{table!r} is not a journal")
        latest_first = list(enumerate(self._rows[table]))
        latest_first.sort(key=lambda pair: (-pair[1]["at_ns"], -pair[0]))
        return [row for _, row in latest_first][:limit]

    def findings(self, query: FindingQuery) -> Sequence[Row]:
        last = {row["id"]: row for row in self._rows["findings"]}
        wanted = {"class": query.klass, "user": query.user, "service": query.service}
        found = [
            row
            for row in last.values()
            if row["id"] not in query.leave_out
            and all(value is None or row[name] == value for name, value in wanted.items())
        ]

        def opened(row: Row) -> tuple[int, str]:
            return (row["at_ns"] if row["opened_ns"] is None else row["opened_ns"], row["id"])

        return sorted(found, key=opened, reverse=True)[: query.limit]

    def next_epoch(self, at_least: int) -> int:
        with self._writing:
            self._epoch = max(at_least, self._epoch + 1)
            return self._epoch

    def keep_mode(self, kept: KeptMode) -> None:
        self._mode = kept

    def kept_mode(self) -> KeptMode | None:
        return self._mode

    def keep_baselines(self, baselines: Sequence[Baseline]) -> None:
        self._baselines |= {one.key: one for one in baselines}

    def baselines(self) -> Sequence[Baseline]:
        return sorted(self._baselines.values(), key=lambda one: one.key.text)

    # -- its owner's -----------------------------------------------------------------------------

    def sizes(self) -> Mapping[str, int]:
        return {**{name: len(rows) for name, rows in self._rows.items()}, "bytes": 0}

    def used_bytes(self) -> int:
        return 0

    def expire(self, now: Instant) -> int:  # noqa: ARG002 - it keeps everything
        return 0

    def close(self) -> None:
        pass


def _attributes(row: Row) -> dict[str, Any]:
    return attributes_of(row["attribute_keys"], row["attribute_values"])


def _exemplars(samples: Sequence[Row]) -> list[dict[str, Any]]:
    by_time = sorted(samples, key=lambda row: (-row["time_ns"], row["received_ns"]))
    found = [one for row in by_time for one in json.loads(row["exemplars"] or "[]")]
    return sorted(found, key=lambda one: -one["time_ns"])


def _labels(series: Row) -> dict[str, str]:
    own = {name: as_text(value) for name, value in _attributes(series).items()}
    return {
        **{name: text for name, text in own.items() if text},
        NAME_LABEL: series["name"],
        SERVICE_LABEL: series["service"],
        INSTANCE_LABEL: series["instance"],
    }

"""Where telemetry and control state are kept: two small protocols, DuckDB embedded behind them."""

from heatshield_collector.store.duckdb.retention import Limits
from heatshield_collector.store.duckdb.store import DuckDBStore
from heatshield_collector.store.protocol import (
    Baseline,
    ControlStore,
    FindingQuery,
    KeptMode,
    LogQuery,
    Operation,
    RequestQuery,
    Row,
    SampleQuery,
    SeriesQuery,
    Store,
    StoreError,
    StoreFullError,
    TelemetryStore,
)

__all__ = [
    "Baseline",
    "ControlStore",
    "DuckDBStore",
    "FindingQuery",
    "KeptMode",
    "Limits",
    "LogQuery",
    "Operation",
    "RequestQuery",
    "Row",
    "SampleQuery",
    "SeriesQuery",
    "Store",
    "StoreError",
    "StoreFullError",
    "TelemetryStore",
]

"""Where telemetry is kept: one small protocol, DuckDB embedded behind it."""

from heatshield_collector.store.duckdb.retention import Limits
from heatshield_collector.store.duckdb.store import DuckDBStore
from heatshield_collector.store.protocol import (
    RequestQuery,
    Row,
    SampleQuery,
    Store,
    StoreError,
    StoreFullError,
)

__all__ = [
    "DuckDBStore",
    "Limits",
    "RequestQuery",
    "Row",
    "SampleQuery",
    "Store",
    "StoreError",
    "StoreFullError",
]

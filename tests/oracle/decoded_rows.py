"""What the columnar decoder made, read back into the rows that the reference decoder makes."""

import json
from typing import Any

import pyarrow as pa

from heatshield_collector.model import attributes_of


def rows_of(table: pa.Table, resources: pa.Table) -> list[dict[str, Any]]:
    resource_by_id = {
        row["resource_id"]: attributes_of(row["attribute_keys"], row["attribute_values"])
        for row in resources.to_pylist()
    }
    assert len(resource_by_id) == len(resources), "a resource stands there twice"
    return [_row(row, resource_by_id) for row in table.to_pylist()]


def _row(row: dict[str, Any], resource_by_id: dict[int, dict[str, Any]]) -> dict[str, Any]:
    row["attributes"] = attributes_of(row.pop("attribute_keys"), row.pop("attribute_values"))
    row["resource"] = resource_by_id[row.pop("resource_id")]
    for name in ("events", "links"):
        if name in row and row[name] is not None:
            row[name] = json.loads(row[name], parse_constant=_not_json)
    return row


def _not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def exact(value: Any) -> Any:
    """The value with its types spelled out: 1, 1.0 and True differ, NaN equals itself."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return f"{type(value).__name__} {value!r}"

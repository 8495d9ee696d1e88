"""Looks for attributes in rows that keep them as two joined texts (``model.py`` says how)."""

from collections.abc import Mapping
from typing import Any, Final

from heatshield_collector.model import escaped

__all__ = ["condition"]

_HAS: Final = """
    (attribute_keys != ''
     AND contains(attribute_keys, {name}) AND contains(attribute_values, {value})
     AND list_filter(
         list_zip(string_split(attribute_keys, chr(31)), string_split(attribute_values, chr(31))),
         lambda pair: substr(pair[1], 3) = {name}
     )[-1][2] = {value})
"""
"""A row has this name with this value. The two searches spare most rows the split. Of a name that a
sender used twice the last value stands, as when it is read."""


def condition(wanted: Mapping[str, str]) -> tuple[list[str], dict[str, Any]]:
    """What spans or log records with these attributes, or of such a resource, fulfil.

    Returns:
        Conditions in SQL, and the values that are bound in them.
    """
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for number, (name, value) in enumerate(sorted(wanted.items())):
        here = {"name": f"$name_{number}", "value": f"$value_{number}"}
        has = _HAS.format(**here)
        conditions.append(
            f"({has} OR resource_id IN (SELECT resource_id FROM resources WHERE {has}))"  # noqa: S608 - this file's own text, every value is bound
        )
        values[f"name_{number}"] = escaped(name)
        values[f"value_{number}"] = escaped(value)
    return conditions, values

"""Writes the tables of docs/detection.md from two runs of ``heatshield evaluate --json``.

``docs/evaluation/before.json`` is of the detection that knew load alone (in its own format of
telemetry, spans); ``docs/evaluation/after.json`` of today's::

    heatshield evaluate --seeds 2 --json > docs/evaluation/after.json
    python docs/evaluation.py
"""

import json
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "detection.md"
BEGIN: Final = "<!-- tables: made by docs/evaluation.py -->"
END: Final = "<!-- end of the tables -->"


def tables(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Both tables: targets, and scenes."""
    return "\n".join([*_targets(before, after), "", *_scenes(before, after)])


def _targets(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old = {one["name"]: one["value"] for one in before["targets"]}
    rows = ["| figure | target | before | now |", "|---|---|---|---|"]
    for one in after["targets"]:
        cells = (one["name"], one["target"], _text(old.get(one["name"])), _text(one["value"]))
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _scenes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old = {one["scene"]: one for one in before["scenes"]}
    rows = ["| scene | worlds | harm is real | before | now |", "|---|---|---|---|---|"]
    for one in after["scenes"]:
        then = old.get(one["scene"])
        cells = (
            f"`{one['scene']}`: {one['about']}", str(one["seeds"]), str(one["harm"]),
            "" if then is None else _came(then), _came(one),
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _came(row: dict[str, Any]) -> str:
    """What came of a scene, in a few words."""
    parts = []
    if row["pace_s"] is not None:
        parts.append(f"slowed after {row['pace_s']:g} s, at most {row['pace_most_s']:g} s")
    if row["refuse_s"] is not None:
        parts.append(f"refused after {row['refuse_s']:g} s")
    for name, words in (
        ("missed", "missed in {}"), ("paced", "**{} innocent slowed**"),
        ("fair_paced", "{} slowed fairly"), ("refused", "**{} innocent refused**"),
    ):  # fmt: skip
        if row[name]:
            parts.append(words.format(row[name]))
    return "; ".join(parts) or "nobody"


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def page(text: str, made: str) -> str:
    """The page with its tables in place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{made}\n{END}{tail}"


def main() -> None:
    """Write the page."""
    before, after = (
        json.loads((HERE / "evaluation" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("before", "after")
    )
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page(text, tables(before, after)), encoding="utf-8")


if __name__ == "__main__":
    main()

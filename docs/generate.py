"""Writes docs/reference.md from the code, so that it is complete and true: ``make docs``.

tests/unit/test_docs_reference.py fails while the committed file says anything else.
"""

import dataclasses
import enum
import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import heatshield
import inventory
from heatshield import names
from heatshield.cli.app import app
from heatshield.settings import number_range
from heatshield_alerts import action_labels
from heatshield_collector.events import EVENTS

__all__ = ["REFERENCE", "reference"]

REFERENCE: Final = Path(__file__).with_name("reference.md")

TITLES: Final = {
    "service": "An instrumented service",
    "collector": "The collector",
    "cli": "The command line",
}

KINDS: Final = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}
LIST: Final = "list; in the environment with commas"

UNLISTED: Final = {
    "/v1/traces": ("POST", "OTLP traces, protobuf or JSON; 200 once they are durable"),
    "/v1/logs": ("POST", "OTLP logs, in the same way"),
    "/v1/metrics": ("POST", "OTLP metrics, in the same way"),
    "/openapi.json": ("GET", "This table for machines, with the schema of every answer"),
    "/docs": ("GET", "The same for people; the page loads its scripts from a public CDN"),
    "/docs/oauth2-redirect": ("GET", "Part of `/docs`"),
    "/redoc": ("GET", "Like `/docs`, in another form"),
}
"""Routes that OpenAPI does not list."""

EXPLAINED: Final = frozenset({"200", "201", "304", "401", "403", "422"})
"""Statuses that the text above the table, or the route's own, explains."""

ABOUT_HTTP: Final = """\
One listener, `127.0.0.1:4318` unless set otherwise. *anyone* is who can reach it, with the
collector's `token` where one is set; *admin* is who has an admin token (401 without it), wherever
the caller is ([running.md](running.md#security)). Bold is required. What is impossible is answered
with 422, and every error of the API is JSON: `{"error": "..."}`.

OTLP/gRPC has a listener of its own, `127.0.0.1:4317`:
`opentelemetry.proto.collector.trace.v1.TraceService/Export`,
`opentelemetry.proto.collector.logs.v1.LogsService/Export` and
`opentelemetry.proto.collector.metrics.v1.MetricsService/Export`.
"""

ABOUT_SETTINGS: Final = """\
Flags and arguments of `instrument()` go over the environment, the environment over
`heatshield.toml` in the working directory (or the file that `HEATSHIELD_CONFIG` names), and that
over these defaults. An unknown setting is an error that names the nearest one.
"""

ABOUT_EVENTS: Final = """\
`GET /api/events` is a stream of server-sent events. The data of each is a JSON object with `at_ns`,
nanoseconds since the Unix epoch.
"""

ABOUT_METRICS: Final = """\
At the collector's `/metrics`; where it says so, in the service's own registry of
`prometheus_client`.
"""


def reference() -> str:
    """The whole file."""
    sections = (
        ("Settings", ABOUT_SETTINGS, _settings()),
        ("Command line", str(app.info.epilog), _commands()),
        ("HTTP", ABOUT_HTTP, _routes()),
        (
            "Events",
            ABOUT_EVENTS,
            _table(("event", "tells"), ((_code(name), text) for name, text in EVENTS.items())),
        ),
        (
            "Metrics",
            ABOUT_METRICS,
            _table(("metric", "what"), _named(names, r"heatshield_\w+")),
        ),
        (
            "Labels of alerts that act",
            "Set by a rule, see [rules.md](rules.md).",
            _table(("label", "meaning"), _named(action_labels, r"heatshield_\w+[a-z]")),
        ),
        (
            "Attributes and headers",
            "What heatshield writes and reads on spans, logs, resources and HTTP responses.",
            _table(("name", "what"), _named(names, r"[a-z]+\.[a-z._]+|heatshield-[a-z-]+")),
        ),
        ("Python", "Everything that `import heatshield` has.", _functions()),
    )
    lines = ["# Reference", "", "Made from the code by `make docs`.", ""]
    for title, about, body in sections:
        lines += [f"## {title}", "", *about.rstrip().splitlines(), "", *body]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _code(value: object) -> str:
    return f"`{value}`"


def _one_of(choices: Iterable[object]) -> str:
    return ", ".join(map(_code, choices))


def _default(value: object) -> str:
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, enum.Enum):
        return _code(value.value)
    return _code(str(value).lower() if isinstance(value, bool) else value)


# -- settings and commands ----------------------------------------------------------------------


def _settings() -> Iterator[str]:
    for section, cls in inventory.SECTIONS.items():
        yield from (f"### {TITLES[section]}: `[{section}]`", "")
        yield from _table(
            ("setting", "default", "environment", "kind", "meaning"), _setting_rows(section, cls)
        )


def _setting_rows(section: str, cls: Any) -> Iterator[tuple[str, ...]]:
    kinds = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        choices = field.metadata.get("choices", ())
        yield (
            _code(field.name),
            _default(field.default),
            _code(inventory.environment_variable(section, field.name)),
            (_one_of(choices) or KINDS.get(kinds[field.name], LIST)) + _range(field.metadata),
            field.metadata["help"],
        )


def _range(metadata: Any) -> str:
    least, most = metadata.get("least"), metadata.get("most")
    return "" if least is None and most is None else f", {number_range(least, most)}"


def _commands() -> Iterator[str]:
    for words, command in inventory.commands():
        yield from (f"### `{words}`", "")
        yield from (*inspect.cleandoc(command.help or "").splitlines(), "")
        parameters = [one for one in command.params if one.name != "help"]
        if parameters:
            yield from _table(("", "default", "meaning"), map(_parameter, parameters))


def _parameter(one: Any) -> tuple[str, str, str]:
    """An argument or an option: how it is written, its default, what it means."""
    name = one.metavar or one.name.upper()
    if one.param_type_name == "argument":
        default = _default(one.default) or ("" if one.required else "(optional)")
    else:
        name = " / ".join(one.opts) + ("" if one.is_flag else f" {name}")
        default = "" if one.is_flag else _default(one.default)
    choices = _one_of(_choices(one.type_descriptor.annotation))
    about = [one.help or ""]
    about += [f"One of {choices}."] if choices else []
    about += [f"Also in `{one.envvar}`."] if one.envvar else []
    return _code(name), default, " ".join(about)


def _choices(annotation: Any) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(str(one.value) for one in annotation)
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return parts
    return next((found for found in map(_choices, parts) if found), ())


# -- routes -------------------------------------------------------------------------------------


def _routes() -> Iterator[str]:
    described = inventory.openapi()
    plain = [
        (_code(f"{UNLISTED[path][0]} {path}"), "anyone", "", UNLISTED[path][1])
        for path in inventory.plain_routes()
    ]
    listed = [
        _route(described, f"{method.upper()} {path}", operation)
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    yield from _table(("route", "who", "parameters and fields", "what"), [*plain, *listed])


def _route(described: dict[str, Any], route: str, operation: dict[str, Any]) -> tuple[str, ...]:
    answers = operation["responses"]
    known = "".join(
        f"; {status} {answer['description']}"
        for status, answer in answers.items()
        if status not in EXPLAINED and answer["description"] != HTTPStatus(int(status)).phrase
    )
    who = "admin" if "401" in answers else "anyone"
    what = inventory.markdown(operation["description"]).partition("\n\n")[0].rstrip(".")
    return _code(route), who, ", ".join(_inputs(described, operation)), what + known


def _inputs(described: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", ()):
        yield _input(one["name"], one["schema"].get("default"), required=one["required"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return
    reference = body["schema"].get("$ref")
    if reference is None:
        yield "a report, as in `heatshield/contract.py`"
        return
    schema = described["components"]["schemas"][reference.rpartition("/")[2]]
    for name, field in schema["properties"].items():
        yield _input(name, field.get("default"), required=name in schema.get("required", ()))


def _input(name: str, default: object, *, required: bool) -> str:
    if required:
        return f"**`{name}`**"
    return _code(name) if default in (None, "") else _code(f"{name}={default}")


# -- names --------------------------------------------------------------------------------------


def _named(module: ModuleType, pattern: str) -> Iterator[tuple[str, str]]:
    for named in inventory.named_texts(module):
        values = [value for value in named.values if re.fullmatch(pattern, value)]
        if values:
            yield _one_of(values), named.text


def _functions() -> Iterator[str]:
    public = [(name, getattr(heatshield, name)) for name in heatshield.__all__]
    rows = (
        (_code(name + _signature(value)), inventory.markdown(value.__doc__).split("\n\n")[0])
        for name, value in public
    )
    yield from _table(("name", "what"), rows)


def _signature(value: Any) -> str:
    """A function's parameters without their types, which the editor knows."""
    if inspect.isclass(value) or inspect.ismodule(value):
        return ""
    bare = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in inspect.signature(value).parameters.values()
    ]
    return str(inspect.Signature(bare))


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")

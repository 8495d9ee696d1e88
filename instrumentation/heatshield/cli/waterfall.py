"""Renders a linked request as a waterfall: values in, rich renderables out.

::

    gateway POST /purchases/{user}       ████████████████████████   1.24 s    2.1 ms
      shop  POST /purchases/{user}        ██████████████████████    1.20 s  310.0 ms
        shop SADD                                  ████████████   890.0 ms  890.0 ms   20,000
        · 12:00:00.123 INFO ownership refreshed  stickers=20000
        · 12:00:00.456 ERROR Exception in ASGI application
          ✗ ValueError: no such sticker
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from heatshield.cli.answers import LinkedRequest, Log, Span
from heatshield.cli.terminal import PIPE_WIDTH, clock_time, safe, seconds, text
from heatshield.cli.tree import LogLine, SpanLine, lines

__all__ = ["Waterfall", "bar", "request_view"]

SERVICE_COLOURS: Final = ("cyan", "magenta", "blue", "green", "bright_cyan", "bright_magenta")
"""Red and yellow are left out: they mean error and rejected."""

LABEL_SHARE: Final = 0.42
"""Fraction of the width for names at least; the rest is for the bar and three figures."""

NUMBER_WIDTH: Final = 11
MIN_BAR_WIDTH: Final = 8
PIPE_BAR_WIDTH: Final = 40
MAX_INDENT: Final = 12
"""Levels of indentation at most: more would leave no room for names."""

NOT_FIELDS: Final = (
    "code.", "exception.", "thread.", "process.", "telemetry.", "log.", "heatshield.", "enduser.",
)  # fmt: skip
"""How attributes of a log begin that are not the service's own fields."""

EIGHTHS: Final = "▏▎▍▌▋▊▉█"
"""Blocks that fill one to eight eighths of a cell from the left."""


def request_view(request: LinkedRequest) -> RenderableType:
    """Render a request's head (user, start, services, cost) and its waterfall."""
    return Group(*_head(request), Text(""), Waterfall(request))


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Spans as bars over the request's duration, with logs beneath their spans."""

    request: LinkedRequest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay the waterfall out for the width of the console."""
        spans, logs = self.request["spans"], self.request["logs"]
        start_ns, length_ns = extent(spans)
        colours = _colours(spans)
        columns = _Columns.of(options.max_width, self._label_width())
        yield columns.heading()
        for line in lines(spans, logs):
            if isinstance(line, LogLine):
                yield from _log(line, options.max_width)
                continue
            drawn = bar(
                line.span["start_ns"] - start_ns,
                line.span["duration_ns"],
                length_ns,
                columns.bar,
            )
            yield columns.row(line, drawn, colours[line.span["service"]])
            yield from _notes(line, self.request["user"])

    def _label_width(self) -> int:
        """Cells of the longest label of a span, indented."""
        shown = lines(self.request["spans"], self.request["logs"])
        return max(
            (_label(line, "").cell_len for line in shown if isinstance(line, SpanLine)), default=0
        )


def extent(spans: list[Span]) -> tuple[int, int]:
    """Return the start of the earliest span and the length to the latest end, in ns, at least 1."""
    if not spans:
        return 0, 1
    start_ns = min(span["start_ns"] for span in spans)
    end_ns = max(span["start_ns"] + span["duration_ns"] for span in spans)
    return start_ns, max(1, end_ns - start_ns)


def bar(offset: float, length: float, whole: float, width: int) -> str:
    """Draw ``length`` at ``offset`` in ``whole`` (all in one unit), in exactly ``width`` cells.

    The bar fills at least an eighth of a cell and starts in the cell of its offset, so that a
    short span stays visible where it ran.
    """
    start = min(max(0, offset), whole) / whole * width
    first = min(int(start), width - 1)
    eighths = max(1, round(min(max(0, length) / whole * width, width - start) * 8))
    full, rest = divmod(min(eighths, (width - first) * 8), 8)
    drawn = "█" * full + (EIGHTHS[rest - 1] if rest else "")
    return (" " * first + drawn).ljust(width)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Widths of the columns, in cells."""

    label: int
    bar: int

    @classmethod
    def of(cls, width: int, longest: int) -> "_Columns":
        if width >= PIPE_WIDTH:
            return cls(longest, PIPE_BAR_WIDTH)
        figures = 3 * NUMBER_WIDTH + 1
        label = max(int(width * LABEL_SHARE), min(longest, width - figures - MIN_BAR_WIDTH))
        return cls(label, max(MIN_BAR_WIDTH, width - label - figures))

    def heading(self) -> Text:
        names = "".join(name.rjust(NUMBER_WIDTH) for name in ("duration", "self", "elements"))
        return Text(" " * (self.label + 1 + self.bar) + names, style="dim", no_wrap=True)

    def row(self, line: SpanLine, drawn: str, colour: str) -> Text:
        span = line.span
        emphasis = _emphasis(span)
        label = _label(line, colour)
        label.truncate(self.label, overflow="ellipsis", pad=True)
        elements = span["cost"].get("elements") or 0
        figures = (
            seconds(span["duration_ns"] / 1e9),
            seconds(span["self_ns"] / 1e9),
            f"{elements:,}" if elements else "",
        )
        return Text.assemble(
            label,
            " ",
            (drawn, emphasis or colour),
            *(figure.rjust(NUMBER_WIDTH) for figure in figures),
            no_wrap=True,
            overflow="crop",
        )


def _label(line: SpanLine, colour: str) -> Text:
    """Service and name of a span, indented by its depth."""
    label = Text("  " * min(line.depth, MAX_INDENT), no_wrap=True)
    label.append(safe(line.span["service"]), style=colour)
    return label.append(f" {safe(line.span['name'])}", style=_emphasis(line.span))


def _head(request: LinkedRequest) -> Iterator[Text]:
    yield Text.assemble("request ", (safe(request["trace_id"]), "bold"))
    whose = Text("user    ").append_text(text(request["user"] or "(none)", "bold"))
    if request["user_from"]:
        whose.append_text(text(f"  (from {request['user_from']})", "dim"))
    yield whose
    start = datetime.fromtimestamp(request["start_ns"] / 1e9, UTC)
    yield Text(
        f"start   {start:%Y-%m-%d} {clock_time(request['start_ns'])} UTC, "
        f"took {seconds(request['duration_ms'] / 1e3)}"
    )
    yield Text("through ").append_text(text(", ".join(request["services"])))
    cost = request["cost"]
    counted = ", ".join(
        f"{cost[name]:,} {name}"
        for name in ("calls", "errors", "elements", "rows", "bytes")
        if cost.get(name)
    )
    yield Text(f"cost    {seconds(cost.get('busy_s', 0.0))} busy" + (counted and f", {counted}"))


def _emphasis(span: Span) -> str:
    if span["rejected"]:
        return "yellow"
    return "red" if is_error(span) else ""


def is_error(span: Span) -> bool:
    """Whether the span failed; a rejected call is not a failure."""
    return span["status"] == "error" and not span["rejected"]


def _notes(line: SpanLine, user: str | None) -> Iterator[Text]:
    """Lines beneath a span: the breaker that rejected it, its error, its user if another's."""
    span, indent = line.span, "  " * (min(line.depth, MAX_INDENT) + 1)
    if span["rejected"]:
        yield text(f"{indent}⊘ rejected by breaker {span['rejected']}", "yellow")
    if is_error(span):
        yield text(f"{indent}✗ {span['status_message'].strip() or 'error'}", "red")
    if span["user"] and span["user"] != user:
        yield text(f"{indent}user {span['user']}", "dim")


def _log(line: LogLine, width: int) -> Iterator[Text]:
    """A log record in one line, its fields beside it or beneath, and what the exception says."""
    log: Log = line.log
    indent = "  " * min(line.depth, MAX_INDENT)
    shown = Text(indent + "· ", style="dim", no_wrap=True)
    shown.append(clock_time(log["time_ns"]))
    severity = log["severity"].upper()
    shown.append(f" {safe(severity)}", style=_severity_style(severity))
    shown.append(f" {safe(log['body'].strip())}")
    fields = " ".join(f"{safe(name)}={safe(value)}" for name, value in _fields(log))
    beside = len(shown) + 2 + len(fields) <= width
    if fields and beside:
        shown.append(f"  {fields}")
    shown.truncate(width, overflow="ellipsis")
    yield shown
    if fields and not beside:
        beneath = Text(f"{indent}  {fields}", style="dim", no_wrap=True)
        beneath.truncate(width, overflow="ellipsis")
        yield beneath
    if failure := _failure(log):
        yield text(f"{indent}  ✗ {failure}", "red")


def _fields(log: Log) -> Iterator[tuple[str, object]]:
    """What the service said beside the text."""
    for name, value in log["attributes"].items():
        if not name.startswith(NOT_FIELDS):
            yield name, value


def _failure(log: Log) -> str:
    """The exception of a log record and the first line of its message; empty if there is none."""
    kind, message, stack = (
        str(log["attributes"].get(f"exception.{part}") or "").strip()
        for part in ("type", "message", "stacktrace")
    )
    if not kind and not message:
        return stack.rpartition("\n")[2]
    return ": ".join(part for part in (kind, message.partition("\n")[0]) if part)


def _severity_style(severity: str) -> str:
    if severity.startswith(("ERR", "FATAL", "CRIT")):
        return "red"
    return "yellow" if severity.startswith("WARN") else "dim"


def _colours(spans: list[Span]) -> dict[str, str]:
    services = dict.fromkeys(span["service"] for span in spans)
    return {
        service: SERVICE_COLOURS[index % len(SERVICE_COLOURS)]
        for index, service in enumerate(services)
    }

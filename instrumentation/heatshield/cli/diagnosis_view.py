"""Renders a diagnosis for the terminal: values in, rich renderables out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from heatshield.cli.diagnosis import Diagnosis, Integration
from heatshield.cli.terminal import text

__all__ = ["diagnosis_view"]

GOOD: Final = ("✓ ", "green")
BAD: Final = ("✗ ", "red")
ADVICE: Final = ("! ", "yellow")
NEUTRAL: Final = ("· ", "dim")
"""Neither good nor bad, such as a library that is not installed."""

MARKS: Final = {
    "active": GOOD,
    "ready": GOOD,
    "available": NEUTRAL,
    "absent": NEUTRAL,
    "disabled": NEUTRAL,
}
"""Mark of an integration by its state; a state that is missing here is a failure."""

HTTP_OK: Final = 200


def diagnosis_view(found: Diagnosis) -> RenderableType:
    """Render one line per finding, each with a mark."""
    return Group(*_collector(found), *_interpreter(found))


def _collector(found: Diagnosis) -> Iterator[Text]:
    if found.error is not None:
        yield _line(BAD, found.error)
    for probe in found.probes:
        mark = GOOD if probe.status == HTTP_OK else BAD
        yield _line(
            mark,
            f"{found.endpoint}{probe.path} answers {probe.status} in {probe.latency_ms:.1f} ms",
        )
        yield from (_line(BAD, reason) for reason in probe.reasons)
        yield from (_line(ADVICE, note) for note in probe.notes)


def _interpreter(found: Diagnosis) -> Iterator[Text]:
    if found.instrumented:
        yield _line(GOOD, "this interpreter is instrumented")
    else:
        yield _line(
            NEUTRAL,
            "this interpreter is not instrumented: start services with `heatshield run -- COMMAND`"
            " or call heatshield.instrument()",
        )
    for name, value in found.instrumentation.items():
        if name != "advice":
            yield _line(NEUTRAL, f"{name}: {_flat(value)}")
    advice = found.instrumentation.get("advice")
    if isinstance(advice, Iterable):
        yield from (_line(ADVICE, str(one)) for one in advice)
    for integration in found.integrations:
        yield _integration(integration)
    for name, version in found.versions.items():
        yield _line(NEUTRAL, f"{name} {version or 'is not installed'}")


def _integration(found: Integration) -> Text:
    named = f"{found.name} {found.version}" if found.version else found.name
    return _line(MARKS.get(found.state, BAD), f"{named} is {found.state}")


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items()) or "none"
    return str(value)


def _line(mark: tuple[str, str], finding: str) -> Text:
    return Text.assemble(mark).append_text(text(finding))

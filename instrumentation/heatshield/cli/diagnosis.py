"""What the doctor found, for people: values in, rich renderables out."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from heatshield.cli.doctor import Diagnosis, Library
from heatshield.cli.terminal import text

__all__ = ["diagnosis_view"]

GOOD = ("✓ ", "green")
BAD = ("✗ ", "red")
NEITHER = ("· ", "dim")
"""Absent, and that is no fault."""

HTTP_OK = 200


def diagnosis_view(found: Diagnosis) -> RenderableType:
    """One line a finding, each with its mark."""
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


def _interpreter(found: Diagnosis) -> Iterator[Text]:
    if found.instrumented:
        yield _line(GOOD, "this interpreter is instrumented")
    else:
        yield _line(
            NEITHER,
            "this interpreter is not instrumented: start services with `heatshield run -- COMMAND`"
            " or call heatshield.instrument()",
        )
    for name, value in found.instrumentation.items():
        yield _line(NEITHER, f"{name}: {value}")
    for library in found.libraries:
        yield _library(library)
    for name, version in found.versions.items():
        yield _line(NEITHER, f"{name} {version or 'is not installed'}")


def _library(library: Library) -> Text:
    if library.version is None:
        return _line(NEITHER, f"{library.name} is not installed")
    state = "instrumented" if library.active else "installed"
    return _line(
        GOOD if library.active else NEITHER, f"{library.name} {library.version} is {state}"
    )


def _line(mark: tuple[str, str], said: str) -> Text:
    return Text.assemble(mark).append_text(text(said))

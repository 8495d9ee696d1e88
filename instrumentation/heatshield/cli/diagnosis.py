"""What the doctor finds: the collector's answers, and what is instrumented here."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Diagnosis", "Integration", "Probe"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer of the collector: status, milliseconds until it was there, why it isn't ready."""

    path: str
    status: int
    latency_ms: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Integration:
    """One thing that heatshield can instrument.

    Attributes:
        version: of its library; ``None`` where that is absent or is Python itself.
        state: ``active``, ``ready`` (as soon as it is imported), ``disabled``, ``absent``,
            ``available`` (nothing is instrumented here), or ``failed: why``.
    """

    name: str
    version: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found.

    Attributes:
        endpoint: the collector that was asked.
        error: why it did not answer, or ``None``.
        probes: its health and its readiness.
        instrumented: whether this interpreter runs under ``heatshield run`` or called
            ``instrument()``.
        instrumentation: what the instrumentation says of itself.
        integrations: what could be instrumented, and is.
        versions: of the interpreter and of what matters in it; ``None`` is not installed.
    """

    endpoint: str
    error: str | None
    probes: tuple[Probe, ...]
    instrumented: bool
    instrumentation: dict[str, Any]
    integrations: tuple[Integration, ...]
    versions: dict[str, str | None]

    @property
    def reachable(self) -> bool:
        """Whether a collector answered."""
        return self.error is None

"""Result of ``heatshield doctor``: the collector's answers and this interpreter's state."""

from dataclasses import dataclass

__all__ = ["Diagnosis", "Integration", "Probe"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One answer of the collector: its status, its latency, why the collector is not ready, and
    what limits its protection though it is.
    """

    path: str
    status: int
    latency_ms: float
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Integration:
    """A library that heatshield can instrument, and whether it is instrumented here.

    Attributes:
        version: version of the library; ``None`` if it is absent or part of Python.
        state: ``active``, ``ready`` (activates when the library is imported), ``disabled``,
            ``absent``, ``available`` (this process is not instrumented), or ``failed: REASON``.
    """

    name: str
    version: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that ``heatshield doctor`` reports.

    Attributes:
        endpoint: address of the collector.
        error: why the collector did not answer, or ``None``.
        probes: the collector's health and readiness.
        instrumented: whether this interpreter runs under ``heatshield run`` or called
            ``instrument()``.
        instrumentation: the rest of ``heatshield.status()``.
        integrations: every integration in the catalogue, with its state.
        versions: versions of the interpreter and of :data:`~heatshield.cli.doctor.DISTRIBUTIONS`;
            ``None`` means not installed.
    """

    endpoint: str
    error: str | None
    probes: tuple[Probe, ...]
    instrumented: bool
    instrumentation: dict[str, object]
    integrations: tuple[Integration, ...]
    versions: dict[str, str | None]

    @property
    def reachable(self) -> bool:
        """Whether a collector answered."""
        return self.error is None

"""Labels, samples and where an evaluation takes its samples from.

A source answers for one instant. The one here, :class:`InstantSamples`, holds samples handed in for
a single evaluation; one with a history answers the same :meth:`InstantSource.select` from a store.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from heatshield_alerts.matchers import Matcher

__all__ = ["METRIC_NAME", "InstantSamples", "InstantSource", "Labels", "Sample"]

METRIC_NAME: Final = "__name__"
"""The label that carries a series' metric name."""


class Labels(Mapping[str, str]):
    """An immutable, hashable set of labels. A label with an empty value is the same as none.

    Attributes:
        pairs: (name, value), sorted by name: the identity of the set.
    """

    __slots__ = ("_hash", "_values", "pairs")

    def __init__(self, values: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._values = {name: value for name, value in sorted(dict(values).items()) if value}
        self.pairs = tuple(self._values.items())
        self._hash = hash(self.pairs)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Labels):
            return self.pairs == other.pairs
        return NotImplemented

    def keep(self, names: Iterable[str]) -> "Labels":
        """Only the labels of these names."""
        return Labels((name, self._values[name]) for name in names if name in self._values)

    def drop(self, *names: str) -> "Labels":
        """All labels but these."""
        if not any(name in self._values for name in names):
            return self
        return Labels(pair for pair in self.pairs if pair[0] not in names)

    def updated(self, values: Mapping[str, str]) -> "Labels":
        """With these labels set; an empty value takes the label away."""
        return Labels({**self._values, **values})

    def __str__(self) -> str:
        rest = ", ".join(
            f'{name}="{_escaped(value)}"' for name, value in self.pairs if name != METRIC_NAME
        )
        return f"{self._values.get(METRIC_NAME, '')}{{{rest}}}"

    def __repr__(self) -> str:
        return f"Labels({self})"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series at the instant of the evaluation.

    Attributes:
        labels: the series, its metric name under ``__name__``.
        value: the value.
    """

    labels: Labels
    value: float

    @classmethod
    def of(cls, name: str, labels: Mapping[str, str], value: float) -> "Sample":
        """A sample of the metric ``name``."""
        return cls(Labels({**labels, METRIC_NAME: name}), value)


class InstantSource(Protocol):
    """Where an evaluator finds samples."""

    def select(
        self, name: str | None, matchers: Sequence[Matcher], at_s: float
    ) -> Iterable[Sample]:
        """The newest sample, at ``at_s``, of each series that all matchers accept.

        Args:
            name: the metric name, when the selector gives one exactly.
            matchers: what else must hold; may test ``__name__`` too.
            at_s: the instant, in the seconds the evaluation counts in.
        """
        ...


class InstantSamples:
    """A source over samples that are all of the same instant, whatever ``at_s`` says.

    Args:
        samples: in any order. Two of one series are not an error here; the evaluator's rules
            on duplicate series apply to what it makes of them.
    """

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.labels.get(METRIC_NAME, ""), []).append(sample)

    def select(
        self,
        name: str | None,
        matchers: Sequence[Matcher],
        at_s: float,  # noqa: ARG002 - the protocol's; there is only one instant here
    ) -> Iterable[Sample]:
        """The samples all matchers accept, in the order they came."""
        if name is not None:
            rows = self._by_name.get(name, [])
        else:
            rows = [sample for group in self._by_name.values() for sample in group]
        for matcher in matchers:
            rows = _accepted(rows, matcher)
        return rows


def _accepted(rows: list[Sample], matcher: Matcher) -> list[Sample]:
    return matcher.filter(rows, lambda sample: sample.labels.get(matcher.name, ""))

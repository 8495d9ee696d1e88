"""Labels, samples, series and where an evaluation takes them from.

A :class:`SeriesSource` answers for a moment or for a range of time, in seconds since the Unix
epoch. The one here, :class:`InstantSamples`, holds samples handed in for a single evaluation; one
with a history answers the same questions from a store.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from heatshield_alerts.matchers import Matcher

__all__ = ["METRIC_NAME", "InstantSamples", "Labels", "Point", "Sample", "Series", "SeriesSource"]

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


class Point(NamedTuple):
    """The value of a series at one moment.

    Attributes:
        at_s: seconds since the Unix epoch.
        value: the value.
    """

    at_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one series over a range of time.

    Attributes:
        labels: the series, its metric name under ``__name__``.
        points: by time, the oldest first; at least one.
    """

    labels: Labels
    points: Sequence[Point]


class SeriesSource(Protocol):
    """Where an evaluator finds samples. Times are seconds since the Unix epoch."""

    def select(self, name: str | None, matchers: Sequence[Matcher], at: float) -> Iterable[Sample]:
        """The newest sample, not later than ``at``, of each series that all matchers accept.

        Args:
            name: the metric name, when the selector gives one exactly.
            matchers: what else must hold; may test ``__name__`` too.
            at: the moment of the evaluation.
        """
        ...

    def select_range(
        self, name: str | None, matchers: Sequence[Matcher], start: float, end: float
    ) -> Iterable[Series]:
        """What each series that all matchers accept has within a range of time.

        Args:
            name: the metric name, when the selector gives one exactly.
            matchers: what else must hold; may test ``__name__`` too.
            start: points at this time are outside, as with Prometheus' ranges.
            end: points at this time are inside.

        Returns:
            The series that have a point in the range.
        """
        ...


class InstantSamples:
    """A source over samples of one moment.

    Args:
        samples: in any order. Two of one series are not an error here; the evaluator's rules
            on duplicate series apply to what it makes of them.
        at: the moment, in seconds since the Unix epoch. ``None`` is the moment of each question:
            that of :meth:`select`, the end of the range of :meth:`select_range`.
    """

    def __init__(self, samples: Iterable[Sample], at: float | None = None) -> None:
        self._at = at
        self._by_name: dict[str, list[Sample]] = {}
        for sample in samples:
            self._by_name.setdefault(sample.labels.get(METRIC_NAME, ""), []).append(sample)

    def select(self, name: str | None, matchers: Sequence[Matcher], at: float) -> Iterable[Sample]:
        """The samples that all matchers accept, in the order they came."""
        if self._at is not None and self._at > at:
            return []
        return self._accepted(name, matchers)

    def select_range(
        self, name: str | None, matchers: Sequence[Matcher], start: float, end: float
    ) -> Iterable[Series]:
        """Each accepted sample as a series of one point, if the moment is in the range."""
        at = end if self._at is None else self._at
        if not start < at <= end:
            return []
        rows = self._accepted(name, matchers)
        return [Series(row.labels, (Point(at, row.value),)) for row in rows]

    def _accepted(self, name: str | None, matchers: Sequence[Matcher]) -> list[Sample]:
        if name is not None:
            rows = self._by_name.get(name, [])
        else:
            rows = [sample for group in self._by_name.values() for sample in group]
        for matcher in matchers:
            rows = _accepted(rows, matcher)
        return rows


def _accepted(rows: list[Sample], matcher: Matcher) -> list[Sample]:
    return matcher.filter(rows, lambda sample: sample.labels.get(matcher.name, ""))

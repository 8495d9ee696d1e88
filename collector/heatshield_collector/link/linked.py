"""What linking a batch gives to the store, to metrics and to detection."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from heatshield_collector.link.charge_sums import by_request
from heatshield_collector.model import REQUEST_PARTS

__all__ = ["Linked"]

_NO_PARTS: Final = REQUEST_PARTS.empty_table()
_NO_SPANS: Final = np.zeros(0, dtype=bool)


@dataclass(frozen=True)
class Linked:
    """A batch, linked.

    Attributes:
        charges: rows of ``link.CHARGES``; spans that were charged before are left out. The user is
            null where the linker has given up waiting for one.
        summed: makes :attr:`parts`.
        opens: bool[n], which spans of the batch open a call, for rates and durations; spans that
            came before are left out.
        errors: bool[n], which spans failed; a rejection is not a failure.
    """

    charges: pa.Table
    summed: Callable[[], pa.Table]
    opens: npt.NDArray[np.bool_]
    errors: npt.NDArray[np.bool_]

    @classmethod
    def of_charges(cls, charges: pa.Table) -> Self:
        """Charges that came without a batch of spans."""
        return cls(charges, lambda: _NO_PARTS, _NO_SPANS, _NO_SPANS)

    @cached_property
    def parts(self) -> pa.Table:
        """``model.REQUEST_PARTS``, one row a trace of the batch; made once, if they are stored."""
        return self.summed()

    @cached_property
    def requests(self) -> pa.Table:
        """The charges by (trace, user, service, call): see :func:`link.charge_sums.by_request`.

        Summed up once, however many detectors ask.
        """
        return by_request(self.charges)

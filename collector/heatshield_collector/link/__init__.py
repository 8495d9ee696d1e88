"""Joins spans by trace id: the user of a request, self time, one summary row a request."""

from heatshield_collector.link.charges import CHARGES
from heatshield_collector.link.linked import Linked
from heatshield_collector.link.linker import Linker

__all__ = ["CHARGES", "Linked", "Linker"]

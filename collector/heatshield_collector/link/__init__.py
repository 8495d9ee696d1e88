"""Joins by trace id: whose request is it, self time, one summary row a request."""

from heatshield_collector.link.linker import CHARGES, Linked, Linker
from heatshield_collector.link.pending import UNKNOWN

__all__ = ["CHARGES", "UNKNOWN", "Linked", "Linker"]

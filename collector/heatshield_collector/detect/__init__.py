"""Sketches, loads and baselines -> findings."""

from heatshield_collector.detect.durations import Durations
from heatshield_collector.detect.findings import Finding, FindingClass, Key
from heatshield_collector.detect.loads import COSTS, Detector, Load, Rules
from heatshield_collector.detect.windows import PANE_S, WINDOWS_S, WindowName

__all__ = [
    "COSTS",
    "PANE_S",
    "WINDOWS_S",
    "Detector",
    "Durations",
    "Finding",
    "FindingClass",
    "Key",
    "Load",
    "Rules",
    "WindowName",
]

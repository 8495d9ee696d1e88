"""Loads, baselines and detectors -> findings."""

from heatshield_collector.detect.detectors import (
    Detection,
    MakesDetectors,
    Profile,
    all_detectors,
)
from heatshield_collector.detect.durations import Durations
from heatshield_collector.detect.findings import CLASSES, Finding, Victims
from heatshield_collector.detect.hot_user import HotRules
from heatshield_collector.detect.loads import COSTS, Load, LoadedCall, Loads
from heatshield_collector.detect.protocol import (
    Capacity,
    Detector,
    PairReader,
    ReportReader,
    Sources,
)
from heatshield_collector.detect.windows import PANE_S, WINDOWS_S, WindowName

__all__ = [
    "CLASSES",
    "COSTS",
    "PANE_S",
    "WINDOWS_S",
    "Capacity",
    "Detection",
    "Detector",
    "Durations",
    "Finding",
    "HotRules",
    "Load",
    "LoadedCall",
    "Loads",
    "MakesDetectors",
    "PairReader",
    "Profile",
    "ReportReader",
    "Sources",
    "Victims",
    "WindowName",
    "all_detectors",
]

"""Loads, baselines and detectors -> findings."""

from heatshield_collector.detect.detectors import Detection, Profile, all_detectors
from heatshield_collector.detect.durations import Durations
from heatshield_collector.detect.findings import Finding
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
    "PairReader",
    "Profile",
    "ReportReader",
    "Sources",
    "WindowName",
    "all_detectors",
]

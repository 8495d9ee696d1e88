"""Findings -> alerts -> breakers, every 250 ms: where heatshield decides and acts."""

from heatshield_collector.control.breakers import Breakers
from heatshield_collector.control.journal import Journal
from heatshield_collector.control.loads import LoadAnswers
from heatshield_collector.control.loop import ControlLoop
from heatshield_collector.control.outlets import Outlets

__all__ = ["Breakers", "ControlLoop", "Journal", "LoadAnswers", "Outlets"]

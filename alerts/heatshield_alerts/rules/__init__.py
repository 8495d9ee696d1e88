"""Prometheus rule files, and the alerts they raise."""

from heatshield_alerts.rules.load import (
    SHIPPED_RULES,
    AlertRule,
    RuleError,
    RuleGroup,
    load_file,
    load_text,
)
from heatshield_alerts.rules.run import Evaluation, RuleFailure, RuleRunner
from heatshield_alerts.rules.series_check import KnownSeries, check_series
from heatshield_alerts.rules.state import Alert, AlertState, Transition
from heatshield_alerts.rules.template import Template, TemplateError
from heatshield_alerts.rules.track import RuleTracker

__all__ = [
    "SHIPPED_RULES",
    "Alert",
    "AlertRule",
    "AlertState",
    "Evaluation",
    "KnownSeries",
    "RuleError",
    "RuleFailure",
    "RuleGroup",
    "RuleRunner",
    "RuleTracker",
    "Template",
    "TemplateError",
    "Transition",
    "check_series",
    "load_file",
    "load_text",
]

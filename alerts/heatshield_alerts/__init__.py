"""Rules, alert states, notifications and breaker control: the pure core that decides.

The way of a decision::

    samples ─→ RuleRunner.evaluate ─→ Transition ─→ Notifier.submit        people are told
                       └─ .firing ──→ decide ─→ BreakerControl.act ─→ Change   clients are told

Everything takes values and a time; only :class:`Notifier` has threads and talks to the network,
from its ``start()`` to its ``stop()``.
"""

from heatshield_alerts.breaker_changes import Change, ChangeKind
from heatshield_alerts.breaker_control import BreakerControl
from heatshield_alerts.breaker_states import BreakerEvent, BreakerState
from heatshield_alerts.caps import Caps
from heatshield_alerts.draft import Draft, Reason
from heatshield_alerts.held_breaker import HeldBreaker
from heatshield_alerts.instances import Instance, Instances
from heatshield_alerts.matchers import Matcher, MatchKind
from heatshield_alerts.notify import Notifier, NotifyConfigError
from heatshield_alerts.promql import (
    EvaluationError,
    Evaluator,
    ExpressionError,
    UnsupportedExpression,
    parse,
)
from heatshield_alerts.rules import (
    SHIPPED_RULES,
    Alert,
    AlertRule,
    AlertState,
    Evaluation,
    RuleError,
    RuleFailure,
    RuleGroup,
    RuleRunner,
    Transition,
    load_file,
    load_text,
)
from heatshield_alerts.series import InstantSamples, Labels, Point, Sample, Series, SeriesSource
from heatshield_alerts.trip_policy import Decision, Evidence, Refuse, Trip, decide

__all__ = [
    "SHIPPED_RULES",
    "Alert",
    "AlertRule",
    "AlertState",
    "BreakerControl",
    "BreakerEvent",
    "BreakerState",
    "Caps",
    "Change",
    "ChangeKind",
    "Decision",
    "Draft",
    "Evaluation",
    "EvaluationError",
    "Evaluator",
    "Evidence",
    "ExpressionError",
    "HeldBreaker",
    "Instance",
    "Instances",
    "InstantSamples",
    "Labels",
    "MatchKind",
    "Matcher",
    "Notifier",
    "NotifyConfigError",
    "Point",
    "Reason",
    "Refuse",
    "RuleError",
    "RuleFailure",
    "RuleGroup",
    "RuleRunner",
    "Sample",
    "Series",
    "SeriesSource",
    "Transition",
    "Trip",
    "UnsupportedExpression",
    "decide",
    "load_file",
    "load_text",
    "parse",
]

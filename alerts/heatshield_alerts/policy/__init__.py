"""What an operator's policy file says: limits on what rules may do, and declared limits on calls.

:mod:`.model` is what it means, :mod:`.load` reads it, :mod:`.diff` says in words what a new version
changes. All of it is pure; the collector watches the file and applies what changes.
"""

from heatshield_alerts.policy.diff import differences
from heatshield_alerts.policy.load import PolicyError, load_file, load_text
from heatshield_alerts.policy.model import NO_POLICY, Policy, RulesPolicy

__all__ = [
    "NO_POLICY",
    "Policy",
    "PolicyError",
    "RulesPolicy",
    "differences",
    "load_file",
    "load_text",
]

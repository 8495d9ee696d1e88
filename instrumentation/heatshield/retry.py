"""Retry budgets for stamina and tenacity; the public face of :mod:`heatshield.resilience.retry`."""

from heatshield.resilience.retry import if_allowed, on

__all__ = ["if_allowed", "on"]

"""Decisions of a service by itself: local breakers, retry budgets."""

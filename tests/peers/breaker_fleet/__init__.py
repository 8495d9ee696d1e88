"""A fleet of real clients of one real collector, the faults between them, and what their logs show.

The fault tests of the breaker protocol and the benchmark of its times both have it.
"""

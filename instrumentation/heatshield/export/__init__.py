"""Spans and log records on their way out: one bounded queue, one thread, one connection."""

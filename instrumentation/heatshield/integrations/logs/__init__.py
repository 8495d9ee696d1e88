"""Logging libraries and access logs: records linked to their request."""

"""OpenTelemetry's tracing API on the path of every request, as light as it can be.

A service that has set up the SDK itself keeps it, and heatshield joins
(:mod:`heatshield.tracing.joining`).
"""

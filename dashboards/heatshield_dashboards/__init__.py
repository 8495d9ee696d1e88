"""Grafana dashboards as code, over the metrics that the collector exposes.

:mod:`~heatshield_dashboards.hot_users` is the dashboard, :mod:`~heatshield_dashboards.queries` what
it asks, :mod:`~heatshield_dashboards.provision` the files Grafana and Prometheus read.
"""

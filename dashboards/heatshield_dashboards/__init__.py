"""Grafana dashboards as code, over the metrics that the collector exposes.

:mod:`~heatshield_dashboards.hot_users` builds the dashboard, :mod:`~heatshield_dashboards.queries`
has its PromQL, :mod:`~heatshield_dashboards.provision` writes the files of Grafana and Prometheus.
"""

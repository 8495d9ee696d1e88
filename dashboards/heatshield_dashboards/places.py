"""Where dashboards, Prometheus and the collector are; it needs none of Grafana's libraries."""

from dataclasses import dataclass

from heatshield.names import DEFAULT_ENDPOINT

__all__ = ["Places"]


@dataclass(frozen=True, slots=True)
class Places:
    """Paths and addresses, as Grafana's server sees them.

    Attributes:
        dashboards: the folder of the dashboards' JSON.
        prometheus: address of the Prometheus that scrapes the collector.
        collector: address of the collector, for Prometheus.
        public_url: address of the collector as people reach it, for links; empty: the same.
    """

    dashboards: str = "/var/lib/grafana/dashboards/heatshield"
    prometheus: str = "http://127.0.0.1:9090"
    collector: str = DEFAULT_ENDPOINT
    public_url: str = ""

    @property
    def linked(self) -> str:
        """Where links lead."""
        return (self.public_url or self.collector).rstrip("/")

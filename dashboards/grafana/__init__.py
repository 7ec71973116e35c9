"""Grafana: dashboards of the fleet, a device, the pipeline and runs, and what provisions them."""

from dashboards.grafana.boards import boards
from dashboards.grafana.provisioning import write

__all__ = ["boards", "write"]

"""The CloudWatch dashboard that the stack deploys, built from typed widgets."""

from dashboards.cloudwatch.builder import Dashboard, Link
from dashboards.cloudwatch.errors import DashboardError
from dashboards.cloudwatch.limits import problems
from dashboards.cloudwatch.metrics import Math, Metric
from dashboards.cloudwatch.telemetry import telemetry_dashboard

__all__ = [
    "Dashboard", "DashboardError", "Link", "Math", "Metric", "problems", "telemetry_dashboard",
]  # fmt: skip

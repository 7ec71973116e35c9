"""The live page: the deployed CloudWatch dashboard, alarms, the fleet and runs, on loopback only."""

from dashboards.live.server import Page, serve

__all__ = ["Page", "serve"]

"""What is wrong with a dashboard."""

from fleetcast.errors import UsageError


class DashboardError(UsageError):
    """A widget shows what the stack does not have, or the body is not what CloudWatch takes."""

"""The command line, targets, runs, reconciliation and reports of fleetcast."""

__version__ = "0.1.0"

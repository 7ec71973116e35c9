"""The command line. Modules behind it are imported by the command that needs them, not before."""

from __future__ import annotations

from fleetcast.cli.root import main

__all__ = ["main"]

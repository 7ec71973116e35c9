"""Where fleetcast keeps what it must remember: one folder, and the runs beside it."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The state folder: `FLEETCAST_HOME`, or `.fleetcast` in the current folder."""
    return Path(os.environ.get("FLEETCAST_HOME", ".fleetcast")).absolute()


def runs_dir() -> Path:
    """The folder of runs: `FLEETCAST_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("FLEETCAST_RUNS", "runs")).absolute()


def deployment_dir(target: str, environment: str) -> Path:
    """Where one deployment keeps its synthesized stack, its state and its outputs."""
    return home() / "deployments" / f"{target}-{environment}"

"""Where fleetcast keeps what it must remember: one folder, and the runs beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.identities import Identities


def home() -> Path:
    """The state folder: `FLEETCAST_HOME`, or `.fleetcast` in the current folder."""
    return Path(os.environ.get("FLEETCAST_HOME", ".fleetcast")).absolute()


def runs_dir() -> Path:
    """The folder of runs: `FLEETCAST_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("FLEETCAST_RUNS", "runs")).absolute()


def deployment_dir(target: str, environment: str) -> Path:
    """Where one deployment keeps its synthesized stack, its state and its outputs."""
    return home() / "deployments" / f"{target}-{environment}"


def claims_of(target: str, environment: str) -> Identities:
    """The claim certificate of one deployment, which devices ask for their own with."""
    from simulator.identities import Identities  # noqa: PLC0415 - keeps --help fast

    return Identities(deployment_dir(target, environment) / "claims", environment)


def identities_of(target: str, environment: str) -> Identities:
    """Keys and certificates of the devices of one deployment."""
    from simulator.identities import Identities  # noqa: PLC0415 - keeps --help fast

    return Identities(deployment_dir(target, environment) / "devices", environment)

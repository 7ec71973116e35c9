"""A run: its identity, its folder, and the way back to the deployment it was made on."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetcast.errors import UsageError
from fleetcast.home import runs_dir
from simulator.scenario import RunInfo, Scenario, validate_run_id

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.pipeline import Pipeline
    from fleetcast.target import Target
    from stack.outputs import StackOutputs

# Between deciding on the start of the schedule and the first reading due: connections are opened
# and the fleet is built in this time, so that the first readings are not late.
HEAD_START_S = 1.0


DEVICE_HEAD_START_S = 3e-6
# Each worker is a process that imports what this one has already.
WORKERS_HEAD_START_S = 4.0


def new_id() -> str:
    """An id for a run: when it was made, and a little chance."""
    return f"r-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_run(
    scenario: Scenario,
    target: Target,
    outputs: StackOutputs | Pipeline | None,
    run_id: str | None = None,
    *,
    transport: str = "kinesis",
    head_start_s: float = HEAD_START_S,
) -> tuple[RunInfo, Path]:
    """Decides on a run and makes its folder.

    Args:
        scenario: What is driven.
        target: Where the stack is.
        outputs: The stack, or a pipeline of others; None where readings go to none.
        run_id: An id of the user's own.
        transport: How readings leave.
        head_start_s: How long until its schedule starts.

    Returns:
        What identifies the run (with the epoch millisecond its schedule starts at), and its folder.

    Raises:
        UsageError: the id cannot name a folder, or is taken.
    """
    name = run_id or new_id()
    validate_run_id(name)
    folder = runs_dir() / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"run {name!r} exists in {folder.parent}: give another --run-id") from None
    building_s = scenario.fleet.devices * DEVICE_HEAD_START_S
    info = RunInfo(
        id=name,
        start_ms=int((time.time() + head_start_s + building_s) * 1000),
        target=target.name,
        environment="" if outputs is None else outputs.environment,
        transport=transport,
        devices_slice=(0, scenario.fleet.devices),
    )
    return info, folder


def run_folder(run_id: str) -> Path:
    """The folder of an earlier run.

    Raises:
        UsageError: there is no such run.
    """
    validate_run_id(run_id)
    folder = runs_dir() / run_id
    if not (folder / "scenario.yaml").is_file():
        known = sorted(path.parent.name for path in runs_dir().glob("*/scenario.yaml"))[-3:]
        latest = f"; the latest are {', '.join(known)}" if known else ""
        raise UsageError(f"no run {run_id!r} in {runs_dir()}{latest}")
    return folder

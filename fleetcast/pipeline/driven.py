"""Runs at a pipeline: what they need before they begin, and the pipeline's file in their folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from fleetcast.errors import UsageError
from fleetcast.pipeline.file import IN_RUN, load, of_run
from fleetcast.pipeline.fit import fitted
from fleetcast.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.pipeline.model import Pipeline
    from simulator.scenario import RunInfo, Scenario


def at(plan: Scenario, path: Path, target: str) -> tuple[Scenario, Pipeline, Target]:
    """(the scenario as it is driven there, the pipeline, where it is).

    Raises:
        UsageError: the file cannot be used, or the scenario could not be verified there.
    """
    pipeline = load(path)
    return fitted(plan, pipeline), pipeline, Target.named(target, region=pipeline.region)


def refuse_others(transport: str) -> None:
    """Refuses to drive a pipeline otherwise than through its stream.

    Raises:
        UsageError: the transport is another.
    """
    if transport != "kinesis":
        raise UsageError(
            f"a pipeline is driven through its stream, and not by transport {transport}: leave out "
            "--transport"
        )


def keep(path: Path, run_dir: Path) -> None:
    """Puts a pipeline's file into the folder of a run, where verifying finds it again."""
    shutil.copyfile(path, run_dir / IN_RUN)


def of_verified(
    run_dir: Path, scenario: Scenario, run: RunInfo, path: Path | None
) -> Pipeline | None:
    """The pipeline that a run is verified at; None where it was driven at a stack of ours.

    Args:
        run_dir: The run's folder.
        scenario: What was driven.
        run: Its identity.
        path: Another file for the same pipeline, to be verified by; it is kept in the folder.

    Raises:
        UsageError: the run was not driven at that pipeline, or cannot be verified so.
    """
    driven = of_run(run_dir)
    if path is None:
        return driven
    if driven is None:
        raise UsageError(
            f"run {run.id} was driven at environment {run.environment}, not at a pipeline: verify "
            "it without --pipeline"
        )
    pipeline = load(path)
    for field in ("name", "stream_name", "region"):
        was, told = getattr(driven, field), getattr(pipeline, field)
        if was != told:
            raise UsageError(f"run {run.id} was driven at {field} {was}, and {path} says {told}")
    fitted(scenario, pipeline)
    if pipeline.payload != driven.payload:
        raise UsageError(f"{path}: payload: is not the one that run {run.id} was driven with")
    keep(path, run_dir)
    return pipeline

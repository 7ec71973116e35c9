"""`fleetcast pipeline check`, and the option by which other commands take a pipeline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.common import (
    JsonOption,
    PortOption,
    TargetOption,
    help_if_nothing_asked,
    run_async,
)

PipelineOption = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="A pipeline of your own, instead of a stack of --env; see docs/bring-your-own.md.",
    ),
]

app = typer.Typer(
    help="Pipelines that fleetcast did not deploy.",
    invoke_without_command=True,
    callback=help_if_nothing_asked,
    epilog="Example: fleetcast pipeline check pipeline.yaml --target aws",
)


@app.command(epilog="Example: fleetcast pipeline check pipeline.yaml --scenario cold-chain")
def check(
    file: Annotated[Path, typer.Argument(help="The pipeline's file.")],
    target: TargetOption = "local",
    port: PortOption = None,
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", help="Also whether this scenario can be verified there."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Look at each point of a pipeline, with calls that change nothing. Exit 1 if one is missing."""
    from fleetcast import scenarios
    from fleetcast.errors import ExitCode
    from fleetcast.pipeline import complaints, fitted, load
    from fleetcast.pipeline.check import check as look
    from fleetcast.target import Target
    from simulator.scenario import load as load_scenario

    wrong = complaints(file)
    for line in wrong:
        typer.echo(f"fleetcast: {line}", err=True)
    if wrong:
        raise typer.Exit(ExitCode.USAGE)
    pipeline = load(file)
    if scenario is not None:
        fitted(load_scenario(scenarios.find(scenario)), pipeline)
    where = Target.named(target, region=pipeline.region, port=port)
    points = run_async(look(pipeline, where))
    if json_:
        typer.echo(json.dumps([asdict(point) for point in points]))
    else:
        for point in points:
            typer.echo(f"{point.name:<14}  {point.state:<9}  {point.detail}")
    if not all(point.ok for point in points):
        raise typer.Exit(ExitCode.VERDICT_FAIL)

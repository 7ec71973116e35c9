"""`fleetcast scenario list`, `show`, `validate` and `preview`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.common import JsonOption, ScenarioArgument, help_if_nothing_asked

ShardsOption = Annotated[
    int, typer.Option("--shards", min=1, help="Shards of the stream, for warnings.")
]
SHARDS = 10

group = typer.Typer(
    help="Look at scenarios before anything is sent.",
    invoke_without_command=True,
    callback=help_if_nothing_asked,
    epilog="Example: fleetcast scenario preview cold-chain --out preview.html",
)


@group.command("list", epilog="Example: fleetcast scenario list")
def list_(json_: JsonOption = False) -> None:
    """List the ready scenarios."""
    from fleetcast import scenarios
    from simulator.scenario import load

    told = []
    for name in scenarios.bundled():
        plan = load(scenarios.find(name))
        told.append(
            {
                "name": name,
                "devices": plan.fleet.devices,
                "peak_per_s": round(plan.profile.peak, 3),
                "duration_s": plan.profile.duration_s,
                "readings": plan.profile.total,
                "description": plan.description,
            }
        )
    if json_:
        typer.echo(json.dumps(told))
        return
    width = max(len(str(one["name"])) for one in told)
    for one in told:
        typer.echo(
            f"{one['name']:<{width}}  {one['devices']:>9,} devices  {one['peak_per_s']:>8,.0f}/s  "
            f"{one['duration_s']:>5,.0f} s  {one['description']}"
        )


@group.command(epilog="Example: fleetcast scenario show fault-parade")
def show(scenario: ScenarioArgument, json_: JsonOption = False) -> None:
    """Tell what a scenario does, and what must come of its faults."""
    from fleetcast import scenarios
    from simulator.scenario import load
    from simulator.scenario.telling import lines

    plan = load(scenarios.find(scenario))
    if json_:
        typer.echo(json.dumps(plan.model_dump(mode="json")))
        return
    for line in lines(plan):
        typer.echo(line)


@group.command(epilog="Example: fleetcast scenario validate my.yaml --shards 4")
def validate(
    scenario: ScenarioArgument, shards: ShardsOption = SHARDS, json_: JsonOption = False
) -> None:
    """Check a scenario, and warn of what may go otherwise than meant. Exit 2 if it is wrong."""
    from fleetcast import scenarios
    from fleetcast.errors import ExitCode
    from simulator.scenario import complaints, load
    from simulator.scenario.warnings import warnings

    path = scenarios.find(scenario)
    wrong = complaints(path)
    warned = [] if wrong else warnings(load(path), shards)
    if json_:
        typer.echo(json.dumps({"ok": not wrong, "errors": wrong, "warnings": warned}))
    else:
        for line in wrong:
            typer.echo(f"fleetcast: {line}", err=True)
        for line in warned:
            typer.echo(f"warning: {line}")
        if not wrong:
            typer.echo(f"{path}: can be used, {len(warned)} warnings")
    if wrong:
        raise typer.Exit(ExitCode.USAGE)


@group.command(epilog="Example: fleetcast scenario preview vehicle-fleet --out preview.svg")
def preview(
    scenario: ScenarioArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="An .svg or .html file; the terminal if not given.")
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", min=1, max=20, help="Devices of each class to show.")
    ] = 4,
) -> None:
    """Draw the rate and the signals as a picture, before anything is sent."""
    from fleetcast import scenarios
    from fleetcast.errors import UsageError
    from simulator.preview import sample
    from simulator.preview.svg import html, svg
    from simulator.preview.text import tables
    from simulator.scenario import load

    if out is not None and out.suffix not in {".svg", ".html"}:
        raise UsageError(f"--out {out}: give a name that ends in .svg or .html")
    drawn = sample(load(scenarios.find(scenario)), per_class=devices)
    if out is not None:
        try:
            out.write_text(svg(drawn) if out.suffix == ".svg" else html(drawn), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from error
        typer.echo(str(out))
        return
    from rich.console import Console

    console = Console(width=None if typer.get_text_stream("stdout").isatty() else 140)
    console.print(f"{drawn.name}: {drawn.total:,} readings in {drawn.duration_s:g} s")
    for told in tables(drawn):
        console.print(told)

"""`fleetcast load`: a load run by Locust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli.common import (
    DevicesOption,
    DurationOption,
    EnvOption,
    OrderingOption,
    RateOption,
    RegionOption,
    RunJsonOption,
    ScenarioArgument,
    SeedOption,
    TargetOption,
    refuse_both,
)
from fleetcast.cli.pipeline import PipelineOption

Ratio = Annotated[
    float | None,
    typer.Option(
        "--max-fail-ratio", help="Most of the readings that may fail, 0 to 1.", min=0, max=1
    ),
]
Latency = Annotated[
    float | None,
    typer.Option("--max-p99", help="Most milliseconds from due to acknowledged, p99.", min=0),
]
RateError = Annotated[
    float | None,
    typer.Option("--max-rate-error", help="Most per cent that the rate may be off.", min=0),
]
Lost = Annotated[
    int | None, typer.Option("--max-lost", help="Most readings that may be lost.", min=0)
]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: fleetcast load cold-chain --workers 2 --rate 5000/s --max-lost 0")(
        load
    )


def load(
    context: typer.Context,
    scenario: ScenarioArgument,
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    pipeline: PipelineOption = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes of Locust that share the devices.", min=1)
    ] = 1,
    devices: DevicesOption = None,
    rate: RateOption = None,
    duration: DurationOption = None,
    transport: Annotated[
        str, typer.Option("--transport", help="Where to.", metavar="kinesis|mqtt|null")
    ] = "kinesis",
    per_connection: Annotated[
        int | None,
        typer.Option("--devices-per-connection", help="Over mqtt: devices of a gateway.", min=1),
    ] = None,
    connect_rate: Annotated[
        float | None,
        typer.Option("--connect-rate", help="Over mqtt: connections begun a second.", min=0.1),
    ] = None,
    aggregate: Annotated[
        bool, typer.Option("--aggregate", help="Many readings to a record, in the KPL's format.")
    ] = False,
    ordering: OrderingOption = "relaxed",
    seed: SeedOption = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="A run id of your own.")] = None,
    max_fail_ratio: Ratio = None,
    max_p99: Latency = None,
    max_rate_error: RateError = None,
    max_lost: Lost = None,
    html: Annotated[Path | None, typer.Option("--html", help="Locust's report.")] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", help="Begin of the names of Locust's CSV files.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="The checks as JUnit XML.")] = None,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="Find the highest rate at which everything asked for holds."),
    ] = False,
    json_: RunJsonOption = False,
) -> None:
    """Drive a scenario with Locust: its statistics and reports, our rates and verdict."""
    from fleetcast import load as runs
    from fleetcast.errors import UsageError

    if stress and json_:
        raise UsageError("--json tells of one run, and --stress makes many: leave one of them out")

    if pipeline is not None:
        refuse_both(context, "--pipeline", "env", "region")
    given = runs.LoadRun(
        scenario, target, env, region, workers, devices, rate, duration, transport,
        per_connection, connect_rate, ordering, seed, run_id, aggregate=aggregate, json=json_,
        pipeline=pipeline,
        limits={
            "--max-fail-ratio": max_fail_ratio, "--max-p99": max_p99,
            "--max-rate-error": max_rate_error, "--max-lost": max_lost,
        },
        reports={"--html": html, "--csv": csv, "--junit": junit},
    )  # fmt: skip
    if stress:
        for line in runs.stress(given):
            typer.echo(line)
        return
    raise typer.Exit(runs.run(given))

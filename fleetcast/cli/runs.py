"""`fleetcast simulate`, `verify`, `report`, `compare` and `demo`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetcast.cli.common import (
    DevicesOption,
    DurationOption,
    EnvOption,
    JsonOption,
    OrderingOption,
    PerConnectionOption,
    RateOption,
    RegionOption,
    RunJsonOption,
    ScenarioArgument,
    SeedOption,
    TargetOption,
    refuse_both,
    run_async,
)
from fleetcast.cli.pipeline import PipelineOption
from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetcast.pipeline import Pipeline
    from fleetcast.verify import Verdict

RunArgument = Annotated[str, typer.Argument(help="Id of a run, its folder's name in runs/.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command(epilog="Example: fleetcast simulate cold-chain --rate 500/s --duration 30s")(
        simulate
    )
    app.command(epilog="Example: fleetcast verify r-20260102-030405-a1b2 --json")(verify)
    app.command(epilog="Example: fleetcast report r-20260102-030405-a1b2")(report)
    app.command(epilog="Example: fleetcast compare last-week today --html compared.html")(compare)
    app.command(epilog="Example: fleetcast demo --keep")(demo)


def simulate(
    context: typer.Context,
    scenario: ScenarioArgument,
    target: TargetOption = "local",
    env: EnvOption = "dev",
    pipeline: PipelineOption = None,
    region: RegionOption = None,
    devices: DevicesOption = None,
    rate: RateOption = None,
    duration: DurationOption = None,
    transport: Annotated[
        str,
        typer.Option(
            "--transport",
            help="Where to: the stack's stream, by itself or by IoT Core; nowhere, a file, standard output: these three "
            "need no stack, and sign with the key in FLEETCAST_SIGNING_KEY, if there is one.",
            metavar="kinesis|mqtt|null|file|stdout",
        ),
    ] = "kinesis",
    output: Annotated[
        Path | None, typer.Option("--output", help="The file of transport file.")
    ] = None,
    aggregate: Annotated[
        bool,
        typer.Option("--aggregate", help="Many readings to a record, in the KPL's format."),
    ] = False,
    ordering: OrderingOption = "relaxed",
    workers: Annotated[
        int, typer.Option("--workers", help="Processes that share the devices.")
    ] = 1,
    per_connection: PerConnectionOption = 1,
    connect_rate: Annotated[
        float,
        typer.Option("--connect-rate", help="Over mqtt: connections begun a second."),
    ] = 100.0,
    seed: SeedOption = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="A run id of your own.")] = None,
    json_: RunJsonOption = False,
) -> None:
    """Drive a scenario's fleet at a stack or pipeline; keep every reading's outcome in a ledger."""
    from fleetcast import scenarios
    from fleetcast.cli.progress import RunProgress
    from fleetcast.home import identities_of
    from fleetcast.pipeline import driven
    from fleetcast.pipeline.check import shards_of
    from fleetcast.runs import HEAD_START_S, WORKERS_HEAD_START_S, new_run
    from fleetcast.target import Target
    from simulator import engine
    from simulator.memory import suit_sending
    from simulator.scenario import load
    from simulator.scenario.warnings import DEFAULT_SHARDS, warnings
    from simulator.sending import Sending
    from stack.outputs import StackOutputs

    plan = load(scenarios.find(scenario)).with_overrides(
        devices=devices, rate=rate, duration=duration, seed=seed
    )
    sending = Sending.checked(transport, aggregate, ordering, output, workers, plan.fleet.devices)
    if transport == "mqtt":
        sending = sending.over_mqtt(identities_of(target, env), per_connection, connect_rate)
    warned = sending.to_stack and not aggregate
    outputs: StackOutputs | Pipeline | None = None
    if pipeline is not None:
        refuse_both(context, "--pipeline", "env", "region")
        driven.refuse_others(transport)
        plan, outputs, where = driven.at(plan, pipeline, target)
        if warned:
            _warn(warnings(plan, run_async(shards_of(outputs, where))))
    else:
        # Before anything is asked of the stack, which may not be there yet.
        if warned:
            _warn(warnings(plan, DEFAULT_SHARDS))
        outputs = StackOutputs.load(target, env) if sending.to_stack else None
        where = Target.named(target, region=region or (outputs.region if outputs else None))
    info, folder = new_run(
        plan,
        where,
        outputs,
        run_id,
        transport=transport,
        head_start_s=(WORKERS_HEAD_START_S if workers > 1 else HEAD_START_S)
        + sending.connecting_s(plan.fleet.devices),
    )
    if pipeline is not None:
        driven.keep(pipeline, folder)
    typer.echo(f"run {info.id}: {plan.name}, {plan.fleet.devices:,} devices", err=True)
    suit_sending()
    with RunProgress(json_lines=json_) as progress:
        summary = run_async(
            engine.simulate(plan, info, outputs, where, folder, progress=progress, sending=sending)
        )
    # Readings on standard output are followed by nothing else.
    aside = transport == "stdout"
    if json_:
        typer.echo(json.dumps(asdict(summary)), err=aside)
        return
    typer.echo(engine.describe(summary), err=aside)
    if sending.to_stack:
        typer.echo(f"verify with: fleetcast verify {info.id}")


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(f"warning: {line}", err=True)


def verify(
    run_id: RunArgument,
    json_: JsonOption = False,
    pipeline: Annotated[
        Path | None,
        typer.Option(
            "--pipeline",
            metavar="FILE",
            help="Verify by this file for the pipeline that the run was driven at.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the checks as JUnit XML, for CI.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a summary in Markdown, for CI.")
    ] = None,
) -> None:
    """Reconcile a run's ledger with what landed. Exit 0 if the verdict is pass, 1 if it is fail."""
    from dashboards.report import summaries, write_report
    from fleetcast.errors import ExitCode
    from fleetcast.pipeline import driven
    from fleetcast.runs import run_folder
    from fleetcast.target import Target
    from fleetcast.verify import exceptions, verify_run
    from simulator.scenario import load_run
    from stack.outputs import StackOutputs

    folder = run_folder(run_id)
    scenario, info = load_run(folder)
    if not info.environment:
        raise UsageError(
            f"run {run_id} went to transport {info.transport}, not to a stack: there is nothing "
            "that its readings could have landed in"
        )
    place: StackOutputs | Pipeline | None = driven.of_verified(folder, scenario, info, pipeline)
    if place is None:
        place = StackOutputs.load(info.target, info.environment)
    where = Target.named(info.target, region=place.region)
    verdict = run_async(verify_run(folder, place, where, progress=_say_progress))
    report_path = write_report(folder)
    if junit is not None:
        _write("--junit", junit, summaries.junit(verdict))
    if markdown is not None:
        _write("--markdown", markdown, summaries.markdown(verdict, exceptions.read(folder)))
    if json_:
        typer.echo((folder / "verdict.json").read_text(), nl=False)
    else:
        show(verdict)
        typer.echo(f"report: {report_path}")
    if verdict.verdict != "pass":
        raise typer.Exit(ExitCode.VERDICT_FAIL)


def report(run_id: RunArgument) -> None:
    """Write the HTML report of a verified run again, from what was recorded."""
    from dashboards.report import write_report
    from fleetcast.runs import run_folder

    typer.echo(str(write_report(run_folder(run_id))))


def compare(
    run_a: Annotated[str, typer.Argument(help="Id of the run to compare with.", metavar="RUN_A")],
    run_b: Annotated[str, typer.Argument(help="Id of the run that is judged.", metavar="RUN_B")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with both latencies over time.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say what changed between two verified runs. Exit 1 if the second's verdict is worse."""
    from dashboards.report import write_comparison
    from fleetcast.errors import ExitCode
    from fleetcast.runs import run_folder
    from fleetcast.verify import compare as comparing

    folders = [run_folder(run_id) for run_id in (run_a, run_b)]
    runs = [comparing.Compared.of_run(folder) for folder in folders]
    found = comparing.compare(*runs)
    if html is not None:
        write_comparison(html, found, runs, folders)
    if json_:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for line in found.lines():
            typer.echo(line)
        if html is not None:
            typer.echo(f"page: {html}")
    if found.worse:
        raise typer.Exit(ExitCode.VERDICT_FAIL)


def demo(
    scenario: Annotated[str, typer.Option("--scenario", help="What to drive.")] = "cold-chain",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the local cloud and the stack standing.")
    ] = False,
) -> None:
    """Start the local cloud, deploy, simulate, verify and report: everything on this machine."""
    from fleetcast.cli.progress import RunProgress
    from fleetcast.demo import run_demo
    from fleetcast.errors import ExitCode

    with RunProgress() as progress:
        finished = run_async(run_demo(scenario, keep=keep, say=typer.echo, progress=progress))
    show(finished.verdict)
    typer.echo(f"report: {finished.report}")
    if finished.verdict.verdict != "pass":
        raise typer.Exit(ExitCode.VERDICT_FAIL)


def show(verdict: Verdict) -> None:
    """Prints a verdict for a person."""
    for line in verdict.lines():
        typer.echo(line)


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from error


def _say_progress(text: str) -> None:
    typer.echo(f"  {text}", err=True)

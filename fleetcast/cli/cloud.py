"""`fleetcast cloud`: the local cloud as a background process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fleetcast.cli import faults
from fleetcast.cli.common import JsonOption, PortOption, help_if_nothing_asked

app = typer.Typer(
    invoke_without_command=True,
    help="The local cloud: AWS on 127.0.0.1, no account needed.",
    epilog="Example: fleetcast cloud start && aws --endpoint-url http://127.0.0.1:4566 s3 ls",
)

NoIamOption = Annotated[
    bool, typer.Option("--no-iam", help="Enforce no IAM, resource and key policies.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder to keep everything in, so that a cloud that is started again goes on.",
    ),
]
app.add_typer(faults.app, name="fault")


@app.callback()
def cloud(context: typer.Context) -> None:
    """The local cloud: AWS on 127.0.0.1, no account needed."""
    help_if_nothing_asked(context)


@app.command(epilog="Example: fleetcast cloud start --port 4566")
def start(port: PortOption = None, no_iam: NoIamOption = False, data: DataOption = None) -> None:
    """Start the local cloud and wait until it answers."""
    from fleetcast import cloudctl

    info = cloudctl.start(port, iam=not no_iam, data=data)
    typer.echo(f"local cloud on {info.endpoint_url} (pid {info.pid}, log {info.log})")


@app.command(epilog="Example: fleetcast cloud stop")
def stop(port: PortOption = None) -> None:
    """Stop the local cloud and every process it started."""
    from fleetcast import cloudctl

    stopped = cloudctl.stop(port)
    typer.echo("local cloud stopped" if stopped else "no local cloud was running")


@app.command(epilog="Example: fleetcast cloud status --json")
def status(port: PortOption = None, json_: JsonOption = False) -> None:
    """Show whether the local cloud runs, what it serves and its backlog. Exit 3 if it is down."""
    from fleetcast import cloudctl
    from fleetcast.errors import ExitCode

    report = cloudctl.status(port)
    if json_:
        typer.echo(json.dumps(report, indent=2, sort_keys=True))
    else:
        for line in cloudctl.describe(report):
            typer.echo(line)
    if not report.get("running"):
        raise typer.Exit(ExitCode.TARGET)

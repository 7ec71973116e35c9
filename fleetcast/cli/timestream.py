"""`fleetcast timestream query`: SQL to Timestream, on this machine or on AWS."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fleetcast.cli.common import (
    PortOption,
    RegionOption,
    TargetOption,
    help_if_nothing_asked,
    run_async,
)

app = typer.Typer(
    invoke_without_command=True,
    help="Ask Timestream: the local one, or that of AWS.",
    epilog="Example: fleetcast timestream query 'SHOW DATABASES'",
)


@app.callback()
def timestream(context: typer.Context) -> None:
    """Ask Timestream: the local one, or that of AWS."""
    help_if_nothing_asked(context)


@app.command(
    epilog="Example: fleetcast timestream query 'SELECT bin(time, 1m), avg(temperature) "
    'FROM "fleetcast-dev"."readings" WHERE time > ago(1h) GROUP BY 1 ORDER BY 1\' --format csv'
)
def query(
    sql: Annotated[str, typer.Argument(help="A query in Timestream's SQL; - reads it from input.")],
    target: TargetOption = "local",
    region: RegionOption = None,
    port: PortOption = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="A table for people, CSV, or a line of JSON for each row.",
            metavar="table|csv|json",
        ),
    ] = "table",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Ends after this many rows.")
    ] = None,
) -> None:  # fmt: skip
    """Run one query and print its rows."""
    from fleetcast.errors import UsageError
    from fleetcast.target import Target
    from fleetcast.timestream import WRITERS, ask

    if form not in WRITERS:
        raise UsageError(f"--format {form}: give table, csv or json")
    text = sys.stdin.read() if sql == "-" else sql
    if not text.strip():
        raise UsageError("the query is empty: give SQL as the argument, or - and SQL as input")
    where = Target.named(target, region=region, port=port)
    run_async(ask(where, text, WRITERS[form](typer.echo), limit))

"""`fleetcast sweep`: delete environments that nobody destroyed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from fleetcast.cli.common import JsonOption, RegionOption, TargetOption, run_async


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: fleetcast sweep --target aws --older-than 24h --dry-run")(sweep)


def sweep(
    target: TargetOption = "local",
    region: RegionOption = None,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Leave alone what has anything younger.")
    ] = "24h",
    prefix: Annotated[
        str, typer.Option("--prefix", help="Only environments whose names begin so.")
    ] = "nightly-",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be deleted, and delete nothing.")
    ] = False,
    state_bucket: Annotated[
        str | None,
        typer.Option("--state-bucket", help="S3 bucket of Terraform's states: they go, too."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask (aws asks otherwise).")] = False,
    json_: JsonOption = False,
) -> None:
    """Delete old environments by the names of their resources, without any state of them.

    Exit 3 if something could not be deleted. What has the name of a production is left alone.
    """
    from datetime import timedelta

    from fleetcast.cli.devices import retirement_of
    from fleetcast.errors import TargetError, UsageError
    from fleetcast.target import Target
    from simulator.units import duration_s
    from stack.deploy import AwsOptions
    from stack.deploy.sweep import sweep as sweep_leftovers

    where = Target.named(target, region=region)
    try:
        age = timedelta(seconds=duration_s(older_than))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--older-than: {error}") from error
    if where.name == "aws" and not (yes or dry_run):
        if not sys.stdin.isatty():
            raise UsageError("sweeping AWS needs --yes where nobody can be asked")
        typer.confirm(
            f"Delete environments {prefix}* older than {older_than} in {where.region}?", abort=True
        )

    def say(line: str) -> None:
        typer.echo(line, err=json_)

    async def retire(environment: str) -> int:
        return await retirement_of(where, environment).retire(lambda _done, _total: None)

    swept = run_async(
        sweep_leftovers(
            where,
            older_than=age,
            prefix=prefix,
            progress=say,
            dry_run=dry_run,
            options=AwsOptions(state_bucket=state_bucket),
            retire=retire,
        )
    )
    if json_:
        typer.echo(json.dumps(asdict(swept)))
    else:
        typer.echo(f"swept {where.name}: {len(swept.deleted)} deleted, {len(swept.kept)} kept")
    if swept.failed:
        raise TargetError(f"{len(swept.failed)} resources could not be deleted: {swept.failed[0]}")

"""`fleetcast cloud fault`: what goes wrong in the local cloud, on purpose."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fleetcast.cli.common import JsonOption, PortOption, help_if_nothing_asked

app = typer.Typer(
    invoke_without_command=True,
    help="Faults of the local cloud: throttling, errors, latency, partial failures, outages.",
    epilog="Example: fleetcast cloud fault add kinesis:PutRecords throttle --share 0.2 --for 30s",
)


@app.callback()
def fault(context: typer.Context) -> None:
    """Faults of the local cloud: throttling, errors, latency, partial failures, outages."""
    help_if_nothing_asked(context)


@app.command(
    epilog="Example: fleetcast cloud fault add kinesis:PutRecords partial --records 0.3 --for 30s"
)
def add(
    where: Annotated[
        str, typer.Argument(help="Service, or service:operation.", metavar="SERVICE[:OPERATION]")
    ],
    kind: Annotated[
        str, typer.Argument(help="throttle, error, latency, partial, outage or timeout.")
    ],
    share: Annotated[
        float | None, typer.Option("--share", help="Share of the calls, above 0 up to 1.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls", help="Ends after this many calls.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", help="Begins this much later, such as 5s.")
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", help="Lasts this long, such as 30s or 5m.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Makes shares and ranges the same again.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option("--latency", help="Of latency: 200ms, or 100ms-2s.")
    ] = None,
    records: Annotated[
        float | None, typer.Option("--records", help="Of partial: share of a batch's records.")
    ] = None,
    code: Annotated[
        str | None, typer.Option("--code", help="Of error and partial: the AWS error code.")
    ] = None,
    status: Annotated[int | None, typer.Option("--status", help="Of error: HTTP status.")] = None,
    message: Annotated[str | None, typer.Option("--message", help="Text of the error.")] = None,
    port: PortOption = None,
    json_: JsonOption = False,
) -> None:
    """Add a fault to a running local cloud. Exit 2 if it makes no sense, 3 if no cloud runs."""
    from fleetcast import cloudctl

    service, _, operation = where.partition(":")
    asked: dict[str, Any] = {
        "service": service,
        "operation": operation or "*",
        "kind": kind,
        "share": share,
        "calls": calls,
        "after_s": _seconds("--after", after),
        "for_s": _seconds("--for", for_),
        "seed": seed,
        "latency_ms": _latency_ms(latency),
        "records": records,
        "code": code,
        "status": status,
        "message": message,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    made = cloudctl.admin(port, "POST", "faults", given)
    typer.echo(_json(made) if json_ else cloudctl.describe_fault(made))


@app.command("list", epilog="Example: fleetcast cloud fault list --json")
def list_(port: PortOption = None, json_: JsonOption = False) -> None:
    """List the faults, those that ended as well, and how often each fired."""
    from fleetcast import cloudctl

    told = cloudctl.admin(port, "GET", "faults")
    if json_:
        typer.echo(_json(told))
        return
    for line in map(cloudctl.describe_fault, told["faults"]):
        typer.echo(line)
    if not told["faults"]:
        typer.echo("no faults")


@app.command(epilog="Example: fleetcast cloud fault clear f-1")
def clear(
    fault_id: Annotated[
        str | None, typer.Argument(help="The fault; all if not given.", metavar="[FAULT]")
    ] = None,
    port: PortOption = None,
    json_: JsonOption = False,
) -> None:
    """Remove one fault, or all; calls that it holds are let go."""
    from urllib.parse import quote

    from fleetcast import cloudctl

    page = f"faults/{quote(fault_id, safe='')}" if fault_id else "faults"
    told = cloudctl.admin(port, "DELETE", page)
    if json_:
        typer.echo(_json(told))
    else:
        typer.echo(f"cleared {', '.join(told['cleared'])}" if told["cleared"] else "no faults")


def _seconds(option: str, text: str | None) -> float | None:
    from fleetcast.errors import UsageError
    from simulator.units import duration_s

    if text is None:
        return None
    try:
        return duration_s(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def _latency_ms(text: str | None) -> float | list[float] | None:
    if text is None:
        return None
    values = [(_seconds("--latency", part) or 0.0) * 1000 for part in text.split("-", 1)]
    return values if len(values) > 1 else values[0]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)

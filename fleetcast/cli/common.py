"""Options that several commands share, and the bridge from a command to asyncio."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fleetcast.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

TargetOption = Annotated[
    str, typer.Option("--target", help="Where to: local or aws.", metavar="local|aws")
]
EnvOption = Annotated[
    str, typer.Option("--env", help="Environment suffix on every resource.", metavar="ENV")
]
RegionOption = Annotated[
    str | None, typer.Option("--region", help="AWS region; AWS_REGION or us-east-1 if not given.")
]
PortOption = Annotated[
    int | None,
    typer.Option("--port", help="TCP port; FLEETCAST_PORT or 4566 if not given.", min=1, max=65535),
]
ScenarioArgument = Annotated[
    str, typer.Argument(help="A YAML file, or the name of a ready scenario.")
]
DevicesOption = Annotated[int | None, typer.Option("--devices", help="Number of devices.")]
RateOption = Annotated[
    str | None, typer.Option("--rate", help="Peak rate, such as 2000/s; the shape is kept.")
]
DurationOption = Annotated[
    str | None, typer.Option("--duration", help="Length, such as 30s; the shape is stretched.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Another seed.")]
PerConnectionOption = Annotated[
    int,
    typer.Option(
        "--devices-per-connection",
        help="Over mqtt: devices that a gateway carries on its connection.",
    ),
]
OrderingOption = Annotated[
    str,
    typer.Option(
        "--ordering",
        help="strict keeps each device's order even when readings are refused and sent again.",
        metavar="relaxed|strict",
    ),
]
RunJsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="The summary as JSON; on standard error, a line of JSON twice a second."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def help_if_nothing_asked(context: typer.Context) -> None:
    """Prints the help of a group of commands that was called without one of them.

    Raises:
        typer.Exit: with the code of wrong usage.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


def refuse_both(context: typer.Context, option: str, *others: str) -> None:
    """Refuses options beside one that takes their place.

    Args:
        context: The command's.
        option: The one that is given.
        others: Names of parameters that may not be given as well.

    Raises:
        UsageError: one is.
    """
    for name in others:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise UsageError(f"{option} and --{name} do not go together: give one of the two")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` to its end; SIGINT and SIGTERM cancel it, so that it can close what it opened.

    Raises:
        KeyboardInterrupt: one of the signals arrived.
    """

    async def guarded() -> T:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None

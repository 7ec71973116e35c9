"""The `fleetcast` command: its sub-commands, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer
from typer.exceptions import TyperException

from fleetcast import __version__
from fleetcast.cli import (
    cloud,
    cost,
    dashboard,
    devices,
    load,
    pipeline,
    runs,
    scenario,
    stack,
    sweep,
    timestream,
)
from fleetcast.cli.common import help_if_nothing_asked
from fleetcast.errors import ExitCode, FleetcastError

# What a shell expects of a command that was interrupted (128 + SIGINT).
INTERRUPTED = 130

app = typer.Typer(
    name="fleetcast",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: fleetcast demo",
)
app.add_typer(cloud.app, name="cloud")
stack.register(app)
app.add_typer(scenario.group, name="scenario")
app.add_typer(devices.app, name="devices")
runs.register(app)
load.register(app)
app.add_typer(pipeline.app, name="pipeline")
cost.register(app)
dashboard.register(app)
sweep.register(app)
app.add_typer(timestream.app, name="timestream")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fleetcast {__version__}")
        raise typer.Exit


@app.callback()
def fleetcast(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", envvar="FLEETCAST_DEBUG")
    ] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Deploy an AWS IoT pipeline, drive a simulated fleet at it, prove that every reading landed."""
    if debug:
        os.environ["FLEETCAST_DEBUG"] = "1"
    help_if_nothing_asked(context)


def main() -> None:
    """Runs the command line and exits with the contract's codes.

    0 done or verdict pass, 1 verdict fail, 2 bad usage or configuration, 3 the target or the
    infrastructure failed, 130 interrupted.
    """
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        # Of the command line itself: an unknown option, a missing argument, a value of a wrong type.
        tell = getattr(error, "format_message", error.__str__)
        _say(f"{' '.join(tell().split()).rstrip('.')}: see fleetcast --help")
        return ExitCode.USAGE
    except typer.Abort:
        # A question was answered with no.
        _say("nothing was done")
        return ExitCode.USAGE
    except FleetcastError as error:
        _trace()
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stdout = None  # nobody reads: nothing to flush at exit
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the last resort of a command line
        _trace()
        _say(f"internal error: {type(error).__name__}: {error} (run again with --debug)")
        return ExitCode.TARGET
    if code == INTERRUPTED:
        _say("interrupted")
    return code if isinstance(code, int) else ExitCode.OK


def _trace() -> None:
    if os.environ.get("FLEETCAST_DEBUG"):
        traceback.print_exc()


def _say(text: str) -> None:
    typer.echo(f"fleetcast: {text}", err=True)

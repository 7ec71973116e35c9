"""`fleetcast dashboard`: the live page; `fleetcast grafana`: the same for Grafana."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetcast.cli.common import EnvOption, PortOption, RegionOption, TargetOption, run_async
from fleetcast.cli.settings import SetOption, stack_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.target import Target


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command(epilog="Example: fleetcast dashboard --env dev")(dashboard)
    app.command(epilog="Example: fleetcast grafana --env dev --out grafana")(grafana)


def dashboard(
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    port: PortOption = None,
    page_port: Annotated[
        int,
        typer.Option("--page-port", help="TCP port of the page; 0 for any free.", min=0, max=65535),
    ] = 4580,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address; open no browser.")
    ] = False,
) -> None:
    """Show the deployed dashboard, alarms, fleet and runs on a page of this machine. Reads only."""
    from fleetcast.target import Target
    from stack.outputs import StackOutputs

    if region is None and target == "aws":
        from fleetcast.errors import UsageError

        try:
            region = StackOutputs.load(target, env).region
        except UsageError as error:
            # The page says so too, and looks again.
            typer.echo(f"note: {error}", err=True)
    run_async(_show(Target.named(target, region=region, port=port), env, page_port, not no_open))


async def _show(where: Target, env: str, page_port: int, browse: bool) -> None:
    import asyncio
    import webbrowser

    from dashboards.live import serve

    async with serve(where, env, port=page_port) as page:
        typer.echo(f"dashboard on {page.address} (stop with Ctrl-C)")
        with way_to(page.address) as way:
            if browse:
                await asyncio.to_thread(webbrowser.open, way.as_uri())
            await asyncio.Event().wait()


@contextmanager
def way_to(address: str) -> Iterator[Path]:
    """A file that leads a browser to an address.

    Everybody on a machine sees the arguments of everybody's processes, but not what is in this file.
    """
    import secrets

    from fleetcast.home import home

    home().mkdir(parents=True, exist_ok=True)
    path = home() / f"dashboard-{secrets.token_hex(4)}.html"
    path.touch(mode=0o600, exist_ok=False)
    try:
        path.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n')
        yield path
    finally:
        path.unlink(missing_ok=True)


def grafana(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.")] = Path("grafana"),
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    port: PortOption = None,
    set_: SetOption = None,
) -> None:
    """Write Grafana dashboards of an environment, and the files that provision them."""
    from dashboards.grafana import write
    from fleetcast.target import Target
    from stack.config import StackConfig

    where = Target.named(target, region=region, port=port)
    config = StackConfig.for_target(where.name, env, region=where.region, **stack_settings(set_))
    for path in write(config, where, out):
        typer.echo(str(path))

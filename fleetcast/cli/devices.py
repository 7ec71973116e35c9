"""`fleetcast devices`: the identities that devices connect to IoT Core with."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetcast.cli.common import (
    EnvOption,
    JsonOption,
    RegionOption,
    TargetOption,
    help_if_nothing_asked,
    run_async,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from fleetcast.claims import Claims
    from fleetcast.enrolment import Enrolment
    from fleetcast.retirement import Retirement
    from fleetcast.target import Target

TELL_S = 2.0
MOST = 1_000_000

app = typer.Typer(
    invoke_without_command=True,
    help="Give devices the certificates that they connect over MQTT with.",
    epilog="Example: fleetcast devices enrol --count 200",
)
CountOption = Annotated[
    int | None,
    typer.Option("--count", help="How many, from dev-000000 on.", min=1, max=MOST),
]
GatewaysOption = Annotated[
    bool, typer.Option("--gateways", help="Gateways, which carry many devices, not devices.")
]


@app.callback()
def devices(context: typer.Context) -> None:
    """Shows the help if nothing is asked for."""
    help_if_nothing_asked(context)


@app.command(epilog="Example: fleetcast devices enrol --env dev --count 2000")
def enrol(
    count: Annotated[
        int, typer.Option("--count", help="How many, from dev-000000 on.", min=1, max=MOST)
    ],
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    gateways: GatewaysOption = False,
    claim: Annotated[
        bool,
        typer.Option(
            "--claim", help="Let them ask over MQTT with a claim certificate, as in the field."
        ),
    ] = False,
) -> None:
    """Make keys, certificates and things for devices; those that have them are left alone."""
    from fleetcast.errors import UsageError

    if claim and gateways:
        raise UsageError("--claim is for devices: the template makes no gateways")
    began_s = time.monotonic()
    work = _work(target, env, region)
    asked = _claims(target, env, region) if claim else None
    made = run_async(work.enrol(_names(count, gateways), gateways=gateways, claims=asked))
    typer.echo(
        f"enrolled {made.new:,}, {made.there:,} were enrolled already, "
        f"in {time.monotonic() - began_s:.1f} s"
    )


@app.command(name="list", epilog="Example: fleetcast devices list --json")
def list_(
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the devices that have keys here, and whether IoT Core takes their certificates."""
    states = run_async(_work(target, env, region).states())
    if json_:
        typer.echo(json.dumps([asdict(one) for one in states], indent=2))
        return
    for one in states:
        typer.echo(f"{one.device}  {one.status:<12}  {one.thing}  {one.certificate_id[:12]}")
    typer.echo(f"{len(states):,} devices")


@app.command(epilog="Example: fleetcast devices revoke dev-000007")
def revoke(
    names: Annotated[list[str] | None, typer.Argument(help="Devices.")] = None,
    count: CountOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that have keys here.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete their certificates, things and keys, too.")
    ] = False,
    target: TargetOption = "local",
    env: EnvOption = "dev",
    region: RegionOption = None,
    gateways: GatewaysOption = False,
) -> None:
    """Take certificates back: their devices are disconnected, and cannot connect again."""
    from fleetcast.errors import UsageError
    from fleetcast.home import identities_of

    if sum((bool(names), count is not None, all_)) != 1:
        raise UsageError("name the devices, or give --count N, or --all")
    chosen = list(names or [])
    if all_:
        chosen = list(identities_of(target, env).devices())
    elif count is not None:
        chosen = _names(count, gateways)
    done = run_async(_work(target, env, region).revoke(chosen, delete=delete))
    if all_ and delete:
        run_async(retirement_of(_where(target, env, region), env).retire_claim())
    typer.echo(", ".join(f"{what} {number:,}" for what, number in sorted(done.items())) or "none")


def _names(count: int, gateways: bool) -> list[str]:
    from simulator.fleet import DeviceNames
    from simulator.identities import gateway_name

    return [gateway_name(n) for n in range(count)] if gateways else DeviceNames(count)[:]


def _where(target: str, env: str, region: str | None) -> Target:
    from fleetcast.target import Target
    from stack.outputs import StackOutputs

    outputs = StackOutputs.load(target, env)
    return Target.named(target, region=region or outputs.region)


def _work(target: str, env: str, region: str | None) -> Enrolment:
    from fleetcast.enrolment import Enrolment
    from fleetcast.home import identities_of

    return Enrolment(_where(target, env, region), identities_of(target, env), Progress())


def _claims(target: str, env: str, region: str | None) -> Claims:
    from fleetcast.claims import Claims
    from fleetcast.home import claims_of

    return Claims(_where(target, env, region), claims_of(target, env))


def retirement_of(
    target: Target, env: str, client: Callable[[], AbstractAsyncContextManager[Any]] | None = None
) -> Retirement:
    """What takes the devices of an environment out of IoT Core.

    Args:
        target: Where.
        env: The environment.
        client: Opens a client of IoT Core; None takes the target's own.
    """
    from fleetcast.enrolment import clients_of
    from fleetcast.home import claims_of, identities_of
    from fleetcast.retirement import Retirement

    opened = client or (lambda: clients_of(target))
    return Retirement(opened, identities_of(target.name, env), claims_of(target.name, env))


class Progress:
    """Tells how far it is, now and then."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + TELL_S

    def __call__(self, done: int, total: int) -> None:
        """Tells it, if there is something new to tell."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + TELL_S
            typer.echo(f"  {done:,} of {total:,} devices", err=True)

"""`fleetcast cost`: what a scenario costs on AWS, before it is run there."""

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
    PerConnectionOption,
    RateOption,
    RegionOption,
    ScenarioArgument,
)
from fleetcast.cli.settings import SetOption, stack_settings

if TYPE_CHECKING:
    from fleetcast.cost import Estimate


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command(epilog="Example: fleetcast cost soak --env dev --set shards=4")(cost)


def cost(
    scenario: ScenarioArgument,
    env: EnvOption = "dev",
    region: RegionOption = None,
    devices: DevicesOption = None,
    rate: RateOption = None,
    duration: DurationOption = None,
    transport: Annotated[
        str,
        typer.Option(
            "--transport", help="Straight to Kinesis, or by IoT Core.", metavar="kinesis|mqtt"
        ),
    ] = "kinesis",
    per_connection: PerConnectionOption = 1,
    set_: SetOption = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="YAML file with prices of your own.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Estimate what a scenario costs on AWS: per service, per hour and per run, at list prices."""
    from fleetcast import scenarios
    from fleetcast.cost import estimate, load_of, load_prices
    from fleetcast.errors import UsageError
    from fleetcast.target import Target
    from simulator.scenario import load
    from stack.config import StackConfig

    plan = load(scenarios.find(scenario)).with_overrides(
        devices=devices, rate=rate, duration=duration, seed=None
    )
    if transport not in ("kinesis", "mqtt"):
        raise UsageError(f"--transport {transport!r} costs nothing on AWS: use kinesis or mqtt")
    if per_connection < 1:
        raise UsageError(f"--devices-per-connection {per_connection}: use 1 or more")
    where = Target.named("aws", region=region)
    config = StackConfig.for_target("aws", env, region=where.region, **stack_settings(set_))
    put = load_of(plan)
    connections = -(-put.devices // per_connection) if transport == "mqtt" else 0
    told = estimate(put, config, load_prices(prices), connections=connections)
    if json_:
        typer.echo(json.dumps(_as_json(told, plan.name, config.region), default=str))
        return
    typer.echo("\n".join(_as_text(told, plan.name, config.region)))


def _as_json(told: Estimate, name: str, region: str) -> dict[str, object]:
    return {
        "scenario": name,
        "region": region,
        "prices_region": told.prices.region,
        "usd_per_hour": told.usd_per_hour,
        "standing_usd_per_hour": told.standing_usd_per_hour,
        "usd_per_run": told.usd_per_run,
        "kept_usd": told.kept_usd,
        "load": asdict(told.load),
        "lines": [
            {
                **asdict(line),
                "usd": told.prices.prices[line.price].usd,
                "per": told.prices.prices[line.price].per,
                "as_of": told.prices.day_of(line.price),
                "page": told.prices.prices[line.price].page,
            }
            for line in told.lines
        ],
    }


def _as_text(told: Estimate, name: str, region: str) -> list[str]:
    load = told.load
    days = sorted({str(told.prices.day_of(line.price)) for line in told.lines})
    of = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    text = [
        (
            f"{name}: {load.readings:,} readings of {load.payload:.0f} bytes in "
            f"{load.duration_s:,.0f} s, {load.rate_per_s:,.1f}/s"
        ),
        f"{'':24}{'$ per hour':>14}{'$ per run':>14}",
    ]
    services = sorted(told.services().items(), key=lambda entry: -entry[1][0])
    text += [f"{service:24}{hour:14.4f}{run:14.4f}" for service, (hour, run) in services]
    text += [
        f"{'total':24}{told.usd_per_hour:14.4f}{told.usd_per_run:14.4f}",
        f"{'while nothing is sent':24}{told.standing_usd_per_hour:14.4f}",
        f"{'kept to its retention':24}{'':14}{told.kept_usd:14.4f}",
        f"list price of {of}, {told.prices.region}, without free tiers, discounts and taxes",
    ]
    if region != told.prices.region:
        text.append(
            f"the prices are those of {told.prices.region}, not of {region}: give --prices FILE"
        )
    return text

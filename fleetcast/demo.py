"""The demonstration: everything from an empty machine to a verdict, on the local cloud."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboards.report import write_report
from fleetcast import cloudctl, scenarios
from fleetcast.runs import new_run
from fleetcast.target import Target
from fleetcast.verify import verify_run
from simulator import engine
from simulator.scenario import load
from stack.config import StackConfig
from stack.deploy import deploy, destroy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetcast.verify import Verdict

ENVIRONMENT = "demo"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What the demonstration ended with."""

    verdict: Verdict
    report: Path


async def run_demo(
    scenario: str,
    *,
    keep: bool,
    say: Callable[[str], None],
    progress: Callable[[engine.Progress], None],
) -> Demonstration:
    """Cloud, deploy, simulate, verify, report; then takes down what it set up unless `keep`.

    Raises:
        FleetcastError: a step could not be done.
    """
    plan = load(scenarios.find(scenario))
    began = time.monotonic()

    def step(text: str) -> None:
        say(f"[{time.monotonic() - began:5.1f} s] {text}")

    with cloudctl.running(keep=keep) as cloud:
        step(f"local cloud on {cloud.endpoint_url}")
        target = Target.named("local", port=cloud.port)
        config = StackConfig.for_target("local", ENVIRONMENT, region=target.region)
        changes: list[str] = []
        outputs = await deploy(config, target, "builtin", progress=changes.append)
        step(f"deployed environment {ENVIRONMENT}: {len(changes)} steps")
        try:
            info, folder = new_run(plan, target, outputs)
            step(f"run {info.id}: {plan.name}, {plan.fleet.devices:,} devices")
            summary = await engine.simulate(plan, info, outputs, target, folder, progress=progress)
            step(engine.describe(summary))
            verdict = await verify_run(folder, outputs, target, progress=lambda _: None)
            report = write_report(folder)
            step(f"verified: {verdict.verdict}")
        finally:
            if not keep:
                await destroy(config, target, "builtin", progress=lambda _: None)
    return Demonstration(verdict, report)

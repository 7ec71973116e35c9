"""A local cloud in a process of its own, with a small stack, for a module's runs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from fleetcast import cloudctl
from fleetcast.runs import new_run
from fleetcast.target import Target
from fleetcast.verify import verify_run
from simulator.engine import simulate
from simulator.sending import Sending
from stack.config import StackConfig
from stack.deploy import choose_engine, deploy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fleetcast.verify import Verdict
    from simulator.measure import Progress
    from simulator.scenario import Scenario
    from stack.outputs import StackOutputs

ENVIRONMENT = "chaos"


@dataclass(frozen=True)
class Cloud:
    """The cloud and the stack on it. `env` is what a command needs to find both."""

    port: int
    pid: int
    target: Target
    outputs: StackOutputs
    env: dict[str, str]

    def function_processes(self) -> list[int]:
        """The processes that the function runs in now."""
        told = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,command="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows = [line.split(maxsplit=2) for line in told.splitlines()]
        return [
            int(pid)
            for pid, parent, command in rows
            if int(parent) == self.pid and "launcher.py" in command
        ]

    def faults(self) -> dict[str, int]:
        """How many calls each fault has happened to, by service, operation and kind."""
        told = cloudctl.admin(self.port, "GET", "faults")["faults"]
        return {f"{one['service']}:{one['operation']} {one['kind']}": one["fired"] for one in told}

    async def drive(
        self,
        scenario: Scenario,
        progress: Callable[[Progress], None] = lambda _: None,
        sending: Sending | None = None,
    ) -> tuple[Path, Verdict]:
        """Drives a scenario and verifies it; `progress` is told twice a second."""
        info, folder = new_run(scenario, self.target, self.outputs)
        await simulate(
            scenario, info, self.outputs, self.target, folder,
            progress=progress, sending=sending or Sending(),
        )  # fmt: skip
        verdict = await verify_run(folder, self.outputs, self.target, progress=print)
        print(*verdict.lines(), sep="\n")  # noqa: T201 - what one looks for where it fails
        return folder, verdict


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    home = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        port = cloudctl.free_port()
        env = {
            "FLEETCAST_HOME": str(home / "home"),
            "FLEETCAST_RUNS": str(home / "runs"),
            "FLEETCAST_PORT": str(port),
        }
        for name, value in env.items():
            patch.setenv(name, value)
        with cloudctl.running(port) as info:
            target = Target.named("local", port=port)
            config = StackConfig.for_target("local", ENVIRONMENT, shards=2)
            outputs = await deploy(config, target, choose_engine(target, None), progress=print)
            yield Cloud(port, info.pid, target, outputs, env)


def failing(verdict: Verdict) -> list[str]:
    """Names of the checks that do not hold."""
    return [check.name for check in verdict.checks if not check.ok]

"""What the suites run against: a deployed target, and one run of a scenario on it.

On the local target everything is made here and torn down afterwards: a local cloud on a free
port, the stack, the run. On AWS the stack of `--env` is deployed with Terraform, and destroyed
unless `--keep` is given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from fleetcast import cloudctl
from fleetcast.runs import new_run
from fleetcast.target import Target
from fleetcast.verify import verify_run
from simulator.engine import simulate
from simulator.scenario import load
from stack.config import StackConfig
from stack.deploy import choose_engine, deploy, destroy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fleetcast.verify import Verdict
    from stack.outputs import StackOutputs

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the choice of target to pytest's options."""
    group = parser.getgroup("fleetcast")
    group.addoption("--target", choices=["local", "aws"], default="local", help="where to run")
    group.addoption("--env", default="e2e", help="environment suffix to deploy (default: e2e)")
    group.addoption("--keep", action="store_true", help="leave the deployed stack standing")


@pytest.fixture(scope="session")
def state(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A state folder of this session's own; on AWS the user's, so that Terraform's state stays."""
    if request.config.getoption("--target") == "aws":
        yield Path.cwd()
        return
    folder = tmp_path_factory.mktemp("e2e")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder / "home"))
        patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
        yield folder


@pytest.fixture(scope="session")
def target(state: Path, request: pytest.FixtureRequest) -> Iterator[Target]:
    """The target; on `local`, a cloud of this session's own in a process of its own."""
    print(f"state in {state}")  # noqa: T201 - pytest shows it where something fails
    if request.config.getoption("--target") == "aws":
        yield Target.named("aws")
        return
    with cloudctl.running(cloudctl.free_port()) as cloud:
        yield Target.named("local", port=cloud.port)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def outputs(target: Target, request: pytest.FixtureRequest) -> AsyncIterator[StackOutputs]:
    """The deployed stack."""
    environment = request.config.getoption("--env")
    config = StackConfig.for_target(target.name, environment, region=target.region)
    engine = choose_engine(target, os.environ.get("FLEETCAST_ENGINE"))
    try:
        yield await deploy(config, target, engine, progress=print)
    finally:
        if not request.config.getoption("--keep"):
            await destroy(config, target, engine, progress=print)


@dataclass(frozen=True)
class Finished:
    """A run that has been driven and verified."""

    run_id: str
    folder: Path
    start_ms: int
    verdict: Verdict


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def run(target: Target, outputs: StackOutputs) -> Finished:
    """One run of the suite's scenario, verified; every test looks at another side of it."""
    scenario = load(HERE / f"scenario-{target.name}.yaml")
    info, folder = new_run(scenario, target, outputs)
    await simulate(scenario, info, outputs, target, folder, progress=lambda _: None)
    verdict = await verify_run(folder, outputs, target, progress=print)
    return Finished(info.id, folder, info.start_ms, verdict)

"""A pytest plugin: drive scenarios at a stack in tests, and assert on their verdicts.

In the `conftest.py` of a repository:

    pytest_plugins = ["fleetcast.pytest_plugin"]

and in a test:

    async def test_cold_chain(fleet):
        run = await fleet.run("cold-chain", rate="200/s", duration="20s")
        assert run.passed, run.why
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from fleetcast import cloudctl, scenarios
from fleetcast.errors import FleetcastError, UsageError
from fleetcast.pipeline import Pipeline, driven, fitted
from fleetcast.pipeline import load as load_pipeline
from fleetcast.runs import new_run
from fleetcast.target import Target
from stack.config import StackConfig
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleetcast.verify import Verdict
    from simulator.scenario import Scenario

OWN_ENVIRONMENT = "pytest"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the choice of the stack to pytest's options."""
    group = parser.getgroup("fleetcast")
    group.addoption(
        "--fleet-target",
        choices=["local", "aws"],
        default="local",
        help="where the stack is (default: local)",
    )
    group.addoption(
        "--fleet-env",
        metavar="ENV",
        help="a deployed environment; without it, a local cloud with a stack of its own is made "
        "for the session",
    )
    group.addoption(
        "--fleet-pipeline",
        metavar="FILE",
        help="a pipeline of your own, in place of an environment",
    )
    group.addoption(
        "--fleet-port", type=int, metavar="PORT", help="of a local cloud that runs (default: 4566)"
    )


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has been driven and verified.

    Attributes:
        id: Its id.
        folder: Its folder, with ledger, events, verdict and report.
        verdict: What it came to.
        report: The page about it.
    """

    id: str
    folder: Path
    verdict: Verdict
    report: Path

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return self.verdict.verdict == "pass"

    @property
    def why(self) -> str:
        """The verdict as a person reads it, failed checks among it, and where the report is."""
        return "\n".join([*self.verdict.lines(), f"report: {self.report}"])

    def fired(self, alarm: str) -> float | None:
        """How long after its fault's start an alarm fired, seconds; None if it did not.

        Args:
            alarm: Its short name.
        """
        return next((a.fired_after_s for a in self.verdict.alarms if a.name == alarm), None)


@dataclass(frozen=True, slots=True)
class FleetTarget:
    """A deployed stack, or a pipeline of others, that scenarios are driven at.

    Attributes:
        target: Where it is.
        outputs: Its names and addresses.
        file: The file of a pipeline of others.
    """

    target: Target
    outputs: StackOutputs | Pipeline
    file: Path | None = None

    async def run(
        self,
        scenario: str | Path | Mapping[str, Any] | Scenario,
        *,
        devices: int | None = None,
        rate: str | float | None = None,
        duration: str | float | None = None,
        seed: int | None = None,
    ) -> Run:
        """Drives a scenario, waits until it has landed, and judges it.

        Args:
            scenario: A file, the name of a ready one, or what a file would hold.
            devices: Another number of devices.
            rate: Another peak; all rates are multiplied alike.
            duration: Another length; all windows are stretched alike.
            seed: Another seed.

        Raises:
            UsageError: the scenario cannot be used.
            TargetError: the target failed.
        """
        from dashboards.report import write_report  # noqa: PLC0415 - plotly takes its time
        from fleetcast.verify import verify_run  # noqa: PLC0415 - a session may drive nothing
        from simulator.engine import simulate  # noqa: PLC0415

        plan = _plan(scenario).with_overrides(
            devices=devices, rate=rate, duration=duration, seed=seed
        )
        if isinstance(self.outputs, Pipeline):
            plan = fitted(plan, self.outputs)
        info, folder = new_run(plan, self.target, self.outputs)
        if self.file is not None:
            driven.keep(self.file, folder)
        await simulate(plan, info, self.outputs, self.target, folder, progress=lambda _: None)
        verdict = await verify_run(folder, self.outputs, self.target, progress=lambda _: None)
        report = await asyncio.to_thread(write_report, folder)
        return Run(info.id, folder, verdict, report)


@pytest.fixture(scope="session")
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FleetTarget]:
    """A stack or pipeline: of `--fleet-env` or `--fleet-pipeline`, or of the session's own."""
    name, environment = request.config.getoption("--fleet-target"), request.config.getoption(
        "--fleet-env"
    )  # fmt: skip
    file, port = request.config.getoption("--fleet-pipeline"), request.config.getoption(
        "--fleet-port"
    )  # fmt: skip
    try:
        if file is not None:
            if environment is not None:
                pytest.fail("give one of the two: --fleet-pipeline or --fleet-env", pytrace=False)
            pipeline = load_pipeline(Path(file))
            where = Target.named(name, region=pipeline.region, port=port)
            yield FleetTarget(where, pipeline, Path(file))
            return
        if environment is not None:
            outputs = StackOutputs.load(name, environment)
            yield FleetTarget(Target.named(name, region=outputs.region, port=port), outputs)
            return
        if name != "local":
            pytest.fail(
                "say what to drive at: --fleet-target aws needs --fleet-env or --fleet-pipeline"
            )
        folder = tmp_path_factory.mktemp("fleetcast")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FLEETCAST_HOME", str(folder / "home"))
            patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
            with cloudctl.running(cloudctl.free_port()) as cloud:
                target = Target.named("local", port=cloud.port)
                yield FleetTarget(target, asyncio.run(_deployed(target)))
    except FleetcastError as error:
        pytest.fail(str(error), pytrace=False)


async def _deployed(target: Target) -> StackOutputs:
    from stack.deploy import choose_engine, deploy  # noqa: PLC0415 - imports the AWS bindings

    config = StackConfig.for_target("local", OWN_ENVIRONMENT)
    return await deploy(config, target, choose_engine(target, "builtin"), progress=lambda _: None)


def _plan(scenario: str | Path | Mapping[str, Any] | Scenario) -> Scenario:
    from simulator.scenario import Scenario, load  # noqa: PLC0415 - as above
    from simulator.scenario.errors import problems  # noqa: PLC0415

    if isinstance(scenario, Scenario):
        return scenario
    if isinstance(scenario, str | Path):
        return load(scenarios.find(str(scenario)))
    try:
        return Scenario.model_validate(dict(scenario))
    except ValidationError as error:
        raise UsageError(f"scenario in a test: {problems(error)[0]}") from error

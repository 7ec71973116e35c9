"""Every metric that the stack's alarms and dashboard name is published when the pipeline runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from dashboards.cloudwatch import telemetry_dashboard
from fleetcast import cloudctl
from fleetcast.runs import new_run
from fleetcast.target import LOCAL_ACCOUNT, Target
from simulator.engine import simulate
from simulator.scenario import load
from stack.alarms import alarm_specs
from stack.config import StackConfig
from stack.deploy import deploy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCENARIO = """
name: metrics
fleet:
  devices: 20
  classes:
    - {name: a, share: 1, signals: {temperature: {model: constant, value: 4}}}
rate: [{shape: constant, rate: 100/s, duration: 2s}]
faults:
  - {name: broken, kind: corrupt, share: 0.2, start: 0s, duration: 2s}
"""
# Of a rule that never failed there is no Failure; tests/localcloud/test_iot_rules.py makes some.
NOT_PUBLISHED = {"AWS/IoT"}
Named = tuple[str, str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "scenario.yaml").write_text(SCENARIO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder / "home"))
        patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
        patch.chdir(folder)
        with cloudctl.running(cloudctl.free_port()) as cloud:
            yield Target.named("local", port=cloud.port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def config(target: Target) -> StackConfig:
    """The configuration of a stack through which readings go."""
    config = StackConfig.for_target("local", "metrics", region=target.region)
    outputs = await deploy(config, target, "builtin", progress=lambda _: None)
    scenario = load(Path("scenario.yaml"))
    info, folder = new_run(scenario, target, outputs)
    await simulate(scenario, info, outputs, target, folder, progress=lambda _: None)
    return config


def named_by_alarms(config: StackConfig) -> set[Named]:
    return {
        (spec.namespace, spec.metric, tuple(sorted(spec.dimensions.items())))
        for spec in alarm_specs(config)
    }


def named_by_dashboard(config: StackConfig) -> set[Named]:
    found = set()
    body = json.loads(telemetry_dashboard(config, LOCAL_ACCOUNT).to_json())
    for widget in body["widgets"]:
        for metric in widget["properties"].get("metrics", ()):
            if "expression" in metric[0]:
                continue
            namespace, name, *dimensions, _ = metric
            pairs = sorted(zip(dimensions[::2], dimensions[1::2], strict=True))
            found.add((namespace, name, tuple(pairs)))
    return found


async def published(client: Any) -> set[Named]:
    found = set()
    async for page in client.get_paginator("list_metrics").paginate():
        for metric in page["Metrics"]:
            pairs = sorted((pair["Name"], pair["Value"]) for pair in metric["Dimensions"])
            found.add((metric["Namespace"], metric["MetricName"], tuple(pairs)))
    return found


@pytest.mark.parametrize("named_by", [named_by_alarms, named_by_dashboard])
async def test_what_is_watched_is_published(target, config, eventually, named_by):
    wanted = {metric for metric in named_by(config) if metric[0] not in NOT_PUBLISHED}
    missing: set[Named] = set()

    async def none_missing() -> bool:
        nonlocal missing
        missing = wanted - await published(client)
        return not missing

    async with target.client("cloudwatch") as client:
        try:
            await eventually(none_missing)
        except AssertionError:
            assert missing == set()

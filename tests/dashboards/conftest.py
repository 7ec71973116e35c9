from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast import cloudctl
from fleetcast.runs import new_run
from fleetcast.target import Target
from simulator.engine import simulate
from simulator.scenario import load
from stack.config import StackConfig
from stack.deploy import deploy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from stack.outputs import StackOutputs

ENVIRONMENT = "shown"
DEVICES, READINGS = 20, 300
SCENARIO = f"""
name: shown
fleet:
  devices: {DEVICES}
  sites: 3
  classes:
    - {{name: a, share: 1, signals: {{temperature: {{model: constant, value: 4}}}}}}
rate: [{{shape: constant, rate: {READINGS // 3}/s, duration: 3s}}]
faults:
  - {{name: broken, kind: corrupt, share: 0.2, start: 0s, duration: 3s}}
  - {{name: hot, kind: overheat, signal: temperature, offset: 80, share: 0.2, start: 0s, duration: 3s}}
"""


@dataclass(frozen=True)
class Deployed:
    """A stack through which readings of one run went."""

    target: Target
    config: StackConfig
    outputs: StackOutputs
    run_id: str

    async def write(self, devices: list[str], *, at_ms: int) -> None:
        """Writes one reading for each device straight into the table."""
        entries = [
            {
                "Dimensions": [
                    {"Name": name, "Value": value}
                    for name, value in (
                        ("device", device), ("class", "b"), ("site", "far"), ("run", "r-direct")
                    )
                ],
                "MeasureName": "reading", "MeasureValueType": "MULTI", "Time": str(at_ms),
                "MeasureValues": [{"Name": "level", "Value": "1.5", "Type": "DOUBLE"}],
            }
            for device in devices
        ]  # fmt: skip
        async with self.target.client("timestream-write") as client:
            for first in range(0, len(entries), 100):
                await client.write_records(
                    DatabaseName=self.outputs.timeseries_database,
                    TableName=self.outputs.timeseries_table,
                    Records=entries[first : first + 100],
                )

    async def incoming(self) -> float:
        """How many records the stream took, as its metric tells."""
        async with self.target.client("cloudwatch") as client:
            answer = await client.get_metric_statistics(
                Namespace="AWS/Kinesis", MetricName="IncomingRecords", Period=900,
                Statistics=["Sum"], StartTime=time.time() - 900, EndTime=time.time() + 60,
                Dimensions=[{"Name": "StreamName", "Value": self.outputs.stream_name}],
            )  # fmt: skip
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    async def rows(self, query: str) -> list[Any]:
        async with self.target.client("timestream-query") as client:
            return (await client.query(QueryString=query))["Rows"]


NONE = [{"Data": [{"ScalarValue": "0"}]}]


@pytest.fixture(scope="package")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("shown")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder / "home"))
        patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
        with cloudctl.running(cloudctl.free_port()) as cloud:
            yield asyncio.run(_deployed(Target.named("local", port=cloud.port), folder))


async def _deployed(target: Target, folder: Path) -> Deployed:
    config = StackConfig.for_target("local", ENVIRONMENT, region=target.region)
    outputs = await deploy(config, target, "builtin", progress=lambda _: None)
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO)
    scenario = load(path)
    info, run_dir = new_run(scenario, target, outputs)
    await simulate(scenario, info, outputs, target, run_dir, progress=lambda _: None)
    made = Deployed(target, config, outputs, info.id)
    table = f'"{outputs.timeseries_database}"."{outputs.timeseries_table}"'
    async with asyncio.timeout(60):
        # The processor writes when it has read; nobody tells. An empty table has no columns.
        while await made.rows(f"SELECT count(*) FROM {table}") == NONE:  # noqa: ASYNC110, S608
            await asyncio.sleep(0.1)
        while len(await made.rows(f"SELECT DISTINCT device FROM {table}")) < DEVICES:  # noqa: ASYNC110, S608
            await asyncio.sleep(0.1)
        # The stream tells its metrics once a second.
        while await made.incoming() < READINGS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return made


class Line:
    """A way to the local cloud that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self.port = cloudctl.free_port()
        self._to = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, onward}

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while part := await source.read(65536):
                    sink.write(part)
                    await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, onward), copy(there, writer))
        self._open -= {writer, onward}


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    async def wait(check: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(60):
            while not (found := await check()):  # noqa: ASYNC110 - AWS tells nobody
                await asyncio.sleep(0.1)
        return found

    return wait

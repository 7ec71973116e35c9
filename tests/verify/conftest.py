from __future__ import annotations

import gzip
import json
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio

from fleetcast.target import Target
from fleetcast.verify.truth import Truth
from localcloud.app import LocalCloud
from simulator.batch import batch_of
from simulator.codec import Encoder
from simulator.columns import of_maybe, of_words
from simulator.fleet import Fleet
from simulator.ledger import OUTCOMES, LedgerWriter
from simulator.scenario import RunInfo, Scenario
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from pathlib import Path

    from fleetcast.verify.truth import TrueRow

KEY = b"a key that only tests know"
SCENARIO = Scenario.model_validate(
    {
        "name": "planted",
        "seed": 11,
        "fleet": {
            "devices": 12,
            "sites": 3,
            "classes": [
                {
                    "name": "cold-chain",
                    "share": 0.5,
                    "signals": {
                        "temperature": {"model": "normal", "mean": -4, "sigma": 3},
                        "charge": {"model": "uniform", "low": 0, "high": 100, "decimals": 0},
                    },
                },
                {
                    "name": "vehicle",
                    "share": 0.5,
                    "signals": {"speed": {"model": "uniform", "low": 0, "high": 9, "decimals": 4}},
                },
            ],
        },
        "rate": [{"shape": "constant", "rate": "60/s", "duration": "2s"}],
        "faults": [
            {"name": "corrupt", "kind": "corrupt", "share": 0.1, "start": "0s", "duration": "2s"}
        ],
    }
)


@dataclass(frozen=True)
class Run:
    """A run that was never driven: its folder with a ledger, and its payloads by number."""

    folder: Path
    info: RunInfo
    payloads: dict[int, bytes]
    truth: Truth


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(
        outcomes: Mapping[int, str] | None = None,
        *,
        scenario: Scenario = SCENARIO,
        start_ms: int | None = None,
    ) -> Run:
        name = f"r-{uuid.uuid4().hex[:12]}"
        folder = tmp_path / name
        folder.mkdir()
        began_ms = int(time.time() * 1000) - 3000 if start_ms is None else start_ms
        info = RunInfo(name, began_ms, "local", "t", "kinesis", (0, scenario.fleet.devices))
        scenario.save(folder / "scenario.yaml", info)
        fleet = Fleet(scenario, info)
        encoder = Encoder(fleet, KEY)
        payloads: dict[int, bytes] = {}
        with LedgerWriter(folder, fleet) as ledger:
            ledger.release(fleet.total)
            for block in fleet.blocks():
                planned = batch_of(fleet, block, encoder.encode(block))
                batch = planned.take(np.repeat(np.arange(len(block)), planned.rows["sends"]))
                rows, numbers = batch.rows, batch.rows["k"].tolist()
                payloads.update(zip(numbers, batch.payloads, strict=True))
                told = [(outcomes or {}).get(k, "acked") for k in numbers]
                acked = np.array([outcome == "acked" for outcome in told])
                rows["outcome"] = [OUTCOMES.index(outcome) for outcome in told]
                rows["attempts"], rows["sent_ns"] = 1, rows["scheduled_ns"]
                rows["acked_ns"] = np.where(acked, rows["scheduled_ns"] + 1_000_000, 0)
                batch.shards = of_words(["shardId-000000000000" if ok else None for ok in acked])
                batch.sequence_numbers = of_maybe(
                    [str(k) if ok else None for k, ok in zip(numbers, acked, strict=True)]
                )
                ledger.record(batch)
        return Run(folder, info, payloads, Truth.of_run(folder, KEY))

    return make


class Cloud:
    """A local cloud with what a run lands in, and ways to plant things there."""

    def __init__(self, target: Target, outputs: StackOutputs, clients: dict[str, Any]) -> None:
        self.target = target
        self.outputs = outputs
        self.clients = clients

    async def write_rows(self, run: Run, rows: Iterable[TrueRow], **changes: Any) -> None:
        """Rows as the processor writes them; `changes` replace fields of each.

        `arrived_ms` and `processed_ms` may be functions of a row.
        """
        processed_ms = changes.pop("processed_ms", int(time.time() * 1000))
        extra = changes.pop("extra", {})
        arrived_ms = changes.pop("arrived_ms", None)
        records = []
        for true in rows:
            row = replace(true, **changes)
            measures = [("seq", "BIGINT", row.seq)]
            for name, at in (("processed_ms", processed_ms), ("arrived_ms", arrived_ms)):
                if at is not None:
                    measures.append((name, "BIGINT", at(row) if callable(at) else at))
            measures += [(n, "DOUBLE", repr(v)) for n, v in {**row.signals, **extra}.items()]
            dimensions = {
                "device": row.device, "class": row.kind, "site": row.site, "run": run.info.id
            }  # fmt: skip
            records.append(
                {
                    "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
                    "Time": str(row.ts_ms),
                    "TimeUnit": "MILLISECONDS",
                    "MeasureName": "reading",
                    "MeasureValueType": "MULTI",
                    "MeasureValues": [
                        {"Name": n, "Type": kind, "Value": str(v)} for n, kind, v in measures
                    ],
                }
            )
        for first in range(0, len(records), 100):
            await self.clients["timestream-write"].write_records(
                DatabaseName=self.outputs.timeseries_database,
                TableName=self.outputs.timeseries_table,
                Records=records[first : first + 100],
            )

    async def put_object(
        self,
        lines: Iterable[bytes],
        *,
        body: bytes | None = None,
        arrived_ms: int | None = None,
        name: str = ".gz",
    ) -> str:
        """An object of the archive, written now, of records that arrived now or at `arrived_ms`."""
        arrived_s = time.time() if arrived_ms is None else arrived_ms / 1000
        hour = time.strftime("%Y/%m/%d/%H", time.gmtime(arrived_s))
        key = f"{self.outputs.archive_prefix}{hour}/{uuid.uuid4().hex}{name}"
        content = gzip.compress(b"".join(line + b"\n" for line in lines)) if body is None else body
        bucket = self.outputs.archive_bucket
        await self.clients["s3"].put_object(Bucket=bucket, Key=key, Body=content)
        return key

    async def send(self, queue_url: str, bodies: Iterable[Any]) -> None:
        """Messages into a queue."""
        for body in bodies:
            text = json.dumps(body)
            await self.clients["sqs"].send_message(QueueUrl=queue_url, MessageBody=text)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Cloud]:
    async with LocalCloud(port=0) as local, AsyncExitStack() as stack:
        target = Target.named("local", port=local.port)
        clients = {
            name: await stack.enter_async_context(target.client(name))
            for name in ("timestream-write", "timestream-query", "s3", "sqs", "secretsmanager")
        }
        writer, sqs = clients["timestream-write"], clients["sqs"]
        await writer.create_database(DatabaseName="fleet")
        await writer.create_table(DatabaseName="fleet", TableName="readings")
        await clients["s3"].create_bucket(Bucket="archive")
        secret = await clients["secretsmanager"].create_secret(
            Name="key", SecretString=KEY.decode()
        )
        quarantine = (await sqs.create_queue(QueueName="quarantine"))["QueueUrl"]
        probe = (await sqs.create_queue(QueueName="probe"))["QueueUrl"]
        outputs = StackOutputs(
            environment="t",
            region=target.region,
            stream_name="stream",
            stream_arn="",
            function_name="",
            timeseries_database="fleet",
            timeseries_table="readings",
            delivery_stream_name="",
            archive_bucket="archive",
            archive_prefix="readings/",
            archive_error_prefix="errors/",
            archive_buffer_s=0,
            topic_arn="",
            probe_queue_url=probe,
            failure_queue_url="",
            quarantine_queue_url=quarantine,
            rule_errors_queue_url="",
            signing_secret_arn=secret["ARN"],
            metric_namespace="Fleetcast",
            alarms={"critical-readings": "fleetcast-critical-readings-t"},
            alarm_period_s=10,
            dashboard_name="",
        )
        yield Cloud(target, outputs, clients)

"""What a reading costs from its shard to its row: in the function, and in the local cloud.

The function's cost is measured beside the same function with botocore's own serialization and
powertools' metrics, which is how one would write it first.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetcast import cloudctl
from fleetcast.target import Target
from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.scenario import RunInfo, load

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios" / "cold-chain.yaml"
KEY = "benchmark"
READINGS = 40_000
BATCH = 500
SHARDS = 50
NOOP = "def handler(event, context):\n    return {'batchItemFailures': []}\n"


def payloads() -> list[bytes]:
    """Signed readings of a fleet."""
    scenario = load(SCENARIO).with_overrides(devices=2000, rate=f"{READINGS}/s", duration="1200ms")
    run = RunInfo("bench", int(time.time() * 1000), "local", "b", "kinesis", (0, 2000))
    fleet = Fleet(scenario, run)
    encoder = Encoder(fleet, KEY.encode())
    return [payload for block in fleet.blocks() for payload in encoder.encode(block)][:READINGS]


def cpu_s(pid: int) -> float:
    """CPU-seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# The function, in a process of its own


def first_version() -> Callable[[dict[str, Any], Any], Any]:
    """The handler with records and metrics as libraries make them."""
    from aws_lambda_powertools import Metrics  # noqa: PLC0415 - in the child only
    from aws_lambda_powertools.metrics import MetricUnit  # noqa: PLC0415

    from stack.processor import handler, timeseries  # noqa: PLC0415

    class PlainWriter:
        def __init__(self, client: Any, database: str, table: str) -> None:
            self._client = client
            self._names = {"DatabaseName": database, "TableName": table}

        def write(self, records: list[dict[str, Any]], run: str, processed_ms: int) -> None:
            self._client.write_records(
                **self._names,
                CommonAttributes={
                    "MeasureName": "reading",
                    "MeasureValueType": "MULTI",
                    "TimeUnit": "MILLISECONDS",
                    "Version": processed_ms,
                    "Dimensions": [{"Name": "run", "Value": run}],
                },
                Records=records,
            )

    def plain_record(reading: Any, arrived_ms: int, processed_ms: int) -> dict[str, Any]:
        numbers = {"seq": reading.seq, "arrived_ms": arrived_ms, "processed_ms": processed_ms}
        named = {"device": reading.device, "class": reading.kind, "site": reading.site}
        return {
            "Dimensions": [{"Name": name, "Value": value} for name, value in named.items()],
            "Time": str(reading.ts),
            "MeasureValues": [
                *({"Name": n, "Type": "BIGINT", "Value": str(v)} for n, v in numbers.items()),
                *(
                    {"Name": n, "Type": "DOUBLE", "Value": repr(float(v))}
                    for n, v in reading.signals.items()
                ),
            ],
        }

    class PlainMetrics:
        def __init__(self, namespace: str, environment: str) -> None:
            self._namespace, self._environment = namespace, environment

        def publish(
            self, counts: dict[str, int], name: str, latencies: list[int], _now_ms: int
        ) -> None:
            metrics = Metrics(namespace=self._namespace)
            metrics.add_dimension("Environment", self._environment)
            for metric, count in counts.items():
                metrics.add_metric(metric, MetricUnit.Count, count)
            for latency in latencies:
                metrics.add_metric(name, MetricUnit.Milliseconds, latency)
            metrics.flush_metrics()

    timeseries.RecordWriter = PlainWriter  # type: ignore[assignment,misc]
    timeseries.record = plain_record  # type: ignore[assignment]
    handler.Metrics = PlainMetrics  # type: ignore[assignment,misc]
    return handler.handle


def child(version: str) -> None:
    """Processes batches from standard input; prints readings per CPU-second."""
    if version == "first":
        handle = first_version()
    else:
        from stack.processor.handler import handle  # noqa: PLC0415 - in the child only

    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 60_000

    records = [
        {
            "eventID": f"shardId-000000000000:{index}",
            "kinesis": {
                "data": line.strip(),
                "sequenceNumber": str(index),
                "partitionKey": "k",
                "approximateArrivalTimestamp": round(time.time(), 3),
            },
        }
        for index, line in enumerate(sys.stdin)
    ]
    events = [
        json.dumps({"Records": records[first : first + BATCH]})
        for first in range(0, len(records), BATCH)
    ]
    output, sys.stdout = sys.stdout, io.StringIO()
    handle(json.loads(events[0]), Context())
    before = resource.getrusage(resource.RUSAGE_SELF)
    for event in events:
        if handle(json.loads(event), Context())["batchItemFailures"]:
            raise RuntimeError("a reading was not written")
        sys.stdout = io.StringIO()
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(len(records) / spent, file=output)


async def measure_function(target: Target, cloud_pid: int, version: str) -> tuple[float, float]:
    """Readings per CPU-second (of the function, of the cloud that takes its rows)."""
    name = f"bench-{version}"
    async with target.client("timestream-write") as writer:
        await writer.create_database(DatabaseName=name)
        await writer.create_table(DatabaseName=name, TableName="rows")
    async with target.client("secretsmanager") as secrets:
        secret = (await secrets.create_secret(Name=name, SecretString=KEY))["ARN"]
    async with target.client("sqs") as sqs:
        queue = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    sent = payloads()
    began = cpu_s(cloud_pid)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", __file__, version],
        input=b"\n".join(base64.b64encode(payload) for payload in sent),
        stdout=subprocess.PIPE,
        check=True,
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": str(target.endpoint_url),
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": target.region,
            "CRITICAL_LIMITS": '{"temperature":{"max":60}}',
            "ENVIRONMENT": "bench",
            "METRICS_NAMESPACE": "bench",
            "QUARANTINE_QUEUE_URL": queue,
            "SIGNING_SECRET_ARN": secret,
            "TIMESERIES_DATABASE": name,
            "TIMESERIES_TABLE": "rows",
        },
    )
    return float(done.stdout), len(sent) / (cpu_s(cloud_pid) - began)


# The way from a shard to a function that does nothing


async def measure_delivery(target: Target, cloud_pid: int) -> tuple[float, float]:
    """Records per (CPU-second of the cloud, second) from shards that are full to a function."""
    async with target.client("kinesis") as kinesis, target.client("lambda") as functions:
        await kinesis.create_stream(StreamName="bench", ShardCount=SHARDS)
        summary = await kinesis.describe_stream_summary(StreamName="bench")
        arn = summary["StreamDescriptionSummary"]["StreamARN"]
        sent = payloads()
        for first in range(0, len(sent), BATCH):
            entries = [
                {"Data": data, "PartitionKey": str(random.random())}  # noqa: S311 - any key
                for data in sent[first : first + BATCH]
            ]
            while entries:
                answer = await kinesis.put_records(StreamName="bench", Records=entries)
                entries = [
                    entry
                    for entry, told in zip(entries, answer["Records"], strict=True)
                    if "ErrorCode" in told
                ]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("app.py", NOOP)
        await functions.create_function(
            FunctionName="bench",
            Runtime="python3.12",
            Role="arn:aws:iam::123456789012:role/bench",
            Handler="app.handler",
            Code={"ZipFile": packed.getvalue()},
        )
        await functions.invoke(FunctionName="bench", Payload=b"{}")
        began_s, began_cpu_s = time.monotonic(), cpu_s(cloud_pid)
        mapping = await functions.create_event_source_mapping(
            EventSourceArn=arn,
            FunctionName="bench",
            StartingPosition="TRIM_HORIZON",
            BatchSize=BATCH,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )
        while True:
            status = cloudctl.status(int(str(target.endpoint_url).rpartition(":")[2]))
            if status["services"]["lambda"]["mappings"][mapping["UUID"]]["backlog"] == 0:
                break
            await asyncio.sleep(0.05)
        return (
            len(sent) / (cpu_s(cloud_pid) - began_cpu_s),
            len(sent) / (time.monotonic() - began_s),
        )


async def main() -> None:
    """Prints the tables."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = folder
        with cloudctl.running(cloudctl.free_port(), iam=False) as cloud:
            target = Target.named("local", port=cloud.port)
            first = await measure_function(target, cloud.pid, "first")
            now = await measure_function(target, cloud.pid, "now")
            delivered = await measure_delivery(target, cloud.pid)
    print(
        f"{READINGS:,} readings in batches of {BATCH}, written to Timestream in the local cloud.\n"
    )
    print("| function | readings per CPU-second | ratio | of the cloud, for the rows |")
    print("|---|---|---|---|")
    print(f"| botocore serializes, powertools measures | {first[0]:,.0f} | 1 | {first[1]:,.0f} |")
    print(f"| the processor | {now[0]:,.0f} | {now[0] / first[0]:.1f} | {now[1]:,.0f} |")
    print(
        f"\nFrom {SHARDS} shards through the event source mapping and the Runtime API to a function "
        f"that does nothing: {delivered[0]:,.0f} readings per CPU-second of the cloud, "
        f"{delivered[1]:,.0f} per second."
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1])
    else:
        asyncio.run(main())

"""The dashboard of an environment: ingest, shards, processor, time series, archive, devices, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.cloudwatch.builder import Dashboard, Link
from dashboards.cloudwatch.metrics import Math, Metric
from stack.alarms import ALARM_NAMES, NAMESPACE
from stack.names import Names

if TYPE_CHECKING:
    from stack.config import StackConfig

# What a shard takes a second (Kinesis Data Streams quotas).
SHARD_BYTES_PER_S = 1024 * 1024
SHARD_RECORDS_PER_S = 1000
STANDARD_PERIOD_S = 60


def telemetry_dashboard(config: StackConfig, account_id: str) -> Dashboard:
    """The dashboard that the stack deploys.

    Args:
        config: The environment.
        account_id: Its account, or Terraform's expression of it.
    """
    # Where alarms are quick, so is what people look at.
    start = "-PT15M" if config.alarm_period_s < STANDARD_PERIOD_S else "-PT3H"
    board = Dashboard(config, account_id, start=start)
    _top(board)
    _ingest(board)
    _processor(board)
    _stores(board)
    _devices(board)
    _cost(board)
    return board


def _top(board: Dashboard) -> None:
    names, region = Names(board.config.environment), board.config.region
    console = f"https://{region}.console.aws.amazon.com"
    board.text(
        f"# fleetcast {board.config.environment}\n"
        "From device to time series and archive. Dashed lines are thresholds of alarms. "
        "In the console of AWS:",
        Link("stream", f"{console}/kinesis/home?region={region}#/streams/details/{names.stream}"),
        Link("processor", f"{console}/lambda/home?region={region}#/functions/{names.function}"),
        Link("tables", f"{console}/timestream/home?region={region}#databases"),
        Link(
            "archive", f"{console}/firehose/home?region={region}#/details/{names.delivery_stream}"
        ),
        Link("queues", f"{console}/sqs/v3/home?region={region}#/queues"),
    )
    board.alarms("Alarms", ALARM_NAMES)


def _ingest(board: Dashboard) -> None:
    config = board.config
    stream = {"StreamName": Names(config.environment).stream}
    records = SHARD_RECORDS_PER_S * config.shards
    size = SHARD_BYTES_PER_S * config.shards

    def metric(name: str, statistic: str, label: str, **more: str | bool) -> Metric:
        return Metric("AWS/Kinesis", name, stream, statistic, label, **more)  # type: ignore[arg-type]

    board.text("## Ingest and shards", height=1)
    board.chart(
        "Readings into the stream",
        [metric("IncomingRecords", "Sum", "records")],
        alarm="silent-fleet",
    )
    board.chart(
        "Capacity of the shards used (%)",
        [
            metric("IncomingRecords", "Sum", "records", id="m1", visible=False),
            metric("IncomingBytes", "Sum", "bytes", id="m2", visible=False),
            Math(f"100 * m1 / PERIOD(m1) / {records}", f"of {records:,} records/s"),
            Math(f"100 * m2 / PERIOD(m2) / {size}", f"of {config.shards} MiB/s"),
        ],
    )
    board.chart(
        "Refused by full shards",
        [metric("WriteProvisionedThroughputExceeded", "Sum", "records")],
        alarm="write-throttling",
    )
    board.chart(
        "How far consumers are behind (ms)",
        [metric("GetRecords.IteratorAgeMilliseconds", "Maximum", "age")],
        alarm="iterator-age",
    )
    board.chart(
        "Size of a record (bytes)",
        [
            metric("IncomingBytes", "Sum", "bytes", id="m1", visible=False),
            metric("IncomingRecords", "Sum", "records", id="m2", visible=False),
            Math("m1 / m2", "mean"),
        ],
    )
    board.chart(
        "Topic rule",
        [
            Metric(
                "AWS/IoT", "Failure",
                {"RuleName": Names(config.environment).rule("readings"), "ActionType": "Kinesis"},
                "Sum", "failures",
            )
        ],
        alarm="topic-rule-failures",
    )  # fmt: skip


def _processor(board: Dashboard) -> None:
    names = Names(board.config.environment)
    function = {"FunctionName": names.function}
    own = {"Environment": board.config.environment}
    board.text("## Processor", height=1)
    board.chart(
        "Readings through the processor",
        [
            Metric(NAMESPACE, "ReadingsReceived", own, "Sum", "received"),
            Metric(NAMESPACE, "ReadingsWritten", own, "Sum", "written"),
            Metric(NAMESPACE, "ReadingsRefused", own, "Sum", "refused"),
        ],
        alarm="refused-readings",
    )
    board.chart(
        "Errors and throttles",
        [
            Metric("AWS/Lambda", "Errors", function, "Sum", "errors"),
            Metric("AWS/Lambda", "Throttles", function, "Sum", "throttles"),
        ],
        alarm=("processor-errors", "processor-throttles"),
    )
    board.chart(
        "Duration (ms)",
        [
            Metric("AWS/Lambda", "Duration", function, "p50", "p50"),
            Metric("AWS/Lambda", "Duration", function, "p99", "p99"),
        ],
        alarm="processor-duration",
    )
    board.chart(
        "Invocations",
        [
            Metric("AWS/Lambda", "Invocations", function, "Sum", "invocations", id="m1"),
            Metric("AWS/Lambda", "ConcurrentExecutions", function, "Maximum", "at once",
                   axis="right"),
        ],
    )  # fmt: skip
    board.chart(
        "Readings to an invocation",
        [
            Metric(NAMESPACE, "ReadingsReceived", own, "Sum", "readings", id="m1", visible=False),
            Metric("AWS/Lambda", "Invocations", function, "Sum", "invocations", id="m2",
                   visible=False),
            Math("m1 / m2", "mean"),
        ],
    )  # fmt: skip
    board.chart(
        "Queues",
        [
            Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": names(queue)},
                   "Maximum", queue)
            for queue in ("failures", "quarantine")
        ],
        alarm="failure-queue",
    )  # fmt: skip
    board.log(
        "What the processor logs as errors",
        f"/aws/lambda/{names.function}",
        "fields @timestamp, @message | filter @message like /ERROR/ | sort @timestamp desc | limit 20",
    )


def _stores(board: Dashboard) -> None:
    names = Names(board.config.environment)
    own = {"Environment": board.config.environment}
    delivery = {"DeliveryStreamName": names.delivery_stream}
    writes = {
        "DatabaseName": names("telemetry"), "TableName": names("readings"),
        "Operation": "WriteRecords",
    }  # fmt: skip
    board.text("## Time series and archive", height=1)
    board.chart(
        "Timestream writes (ms)",
        [
            Metric("AWS/Timestream", "SuccessfulRequestLatency", writes, "p50", "p50"),
            Metric("AWS/Timestream", "SuccessfulRequestLatency", writes, "p99", "p99"),
        ],
    )
    board.chart(
        "Records that Timestream rejected",
        [Metric(NAMESPACE, "TimestreamRejected", own, "Sum", "rejected")],
        alarm="timeseries-rejections",
    )
    board.chart(
        "Archive (records)",
        [
            Metric("AWS/Firehose", "DeliveryToS3.Records", delivery, "Sum", "records"),
            Metric("AWS/Firehose", "DeliveryToS3.Bytes", delivery, "Sum", "bytes", axis="right"),
        ],
    )
    board.chart(
        "Archive freshness (s)",
        [Metric("AWS/Firehose", "DeliveryToS3.DataFreshness", delivery, "Maximum", "age")],
        alarm="archive-freshness",
    )


def _devices(board: Dashboard) -> None:
    own = {"Environment": board.config.environment}
    board.chart(
        "From device to processor (ms)",
        [
            Metric(NAMESPACE, "EndToEndLatency", own, "p50", "p50"),
            Metric(NAMESPACE, "EndToEndLatency", own, "p99", "p99"),
        ],
        alarm="end-to-end-latency",
    )
    board.chart(
        "Critical readings",
        [
            Metric(NAMESPACE, "CriticalReadings", own, "Sum", "critical", id="m1"),
            Metric(NAMESPACE, "ReadingsReceived", own, "Sum", "received", id="m2", visible=False),
            Math("100 * m1 / m2", "% of readings", axis="right"),
        ],
        alarm="critical-readings",
    )


def _cost(board: Dashboard) -> None:
    config = board.config
    names = Names(config.environment)
    stream, function = {"StreamName": names.stream}, {"FunctionName": names.function}
    writes = {
        "DatabaseName": names("telemetry"), "TableName": names("readings"),
        "Operation": "WriteRecords",
    }  # fmt: skip
    board.text("## What is billed by use, in the time that is shown", height=1)
    board.numbers(
        "Cost drivers",
        [
            Metric("AWS/Kinesis", "IncomingRecords", stream, "Sum", "records into the stream"),
            Metric("AWS/Kinesis", "IncomingBytes", stream, "Sum", "bytes into stream and archive"),
            Metric("AWS/Lambda", "Invocations", function, "Sum", "invocations"),
            Metric("AWS/Lambda", "Duration", function, "Sum", "ms", id="m1", visible=False),
            Math(f"m1 / 1000 * {config.processor_memory_mb / 1024:g}", "GB-seconds of Lambda"),
            Metric("AWS/Timestream", "SuccessfulRequestLatency", writes, "SampleCount",
                   "Timestream write calls"),
        ],
        whole_range=True,
    )  # fmt: skip

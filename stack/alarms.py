"""What the stack's alarms watch: plain data, for the constructs, the dashboard and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stack.names import Names

if TYPE_CHECKING:
    from stack.config import StackConfig

NAMESPACE = "Fleetcast"
ALARM_NAMES = (
    "write-throttling", "iterator-age", "processor-errors", "processor-throttles",
    "processor-duration", "failure-queue", "archive-freshness", "timeseries-rejections",
    "critical-readings", "refused-readings", "silent-fleet", "end-to-end-latency",
    "topic-rule-failures",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AlarmSpec:
    """One alarm: a statistic of a metric compared with a threshold.

    `missing` says what a period without data means (TreatMissingData).
    """

    short: str
    description: str
    namespace: str
    metric: str
    dimensions: dict[str, str]
    statistic: str
    threshold: float
    comparison: str = "GreaterThanThreshold"
    periods: int = 1
    missing: Literal["breaching", "notBreaching", "missing", "ignore"] = "notBreaching"


def alarm_specs(config: StackConfig) -> list[AlarmSpec]:
    """Every alarm of the stack, in the order in which a reading passes what they watch."""
    names = Names(config.environment)
    stream = {"StreamName": names.stream}
    function = {"FunctionName": names.function}
    own = {"Environment": config.environment}
    specs = [
        AlarmSpec(
            "topic-rule-failures", "The topic rule could not hand readings to the stream.",
            "AWS/IoT", "Failure", {"RuleName": names.rule("readings"), "ActionType": "Kinesis"},
            "Sum", 0,
        ),
        AlarmSpec(
            "silent-fleet", "No reading reached the stream.",
            "AWS/Kinesis", "IncomingRecords", stream, "Sum", 1, "LessThanThreshold",
            config.silent_periods, "breaching",
        ),
        AlarmSpec(
            "write-throttling", "The stream refused readings: its shards are full.",
            "AWS/Kinesis", "WriteProvisionedThroughputExceeded", stream, "Sum", 0,
        ),
        AlarmSpec(
            "iterator-age", "A consumer reads the stream too slowly.",
            "AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", stream, "Maximum",
            config.iterator_age_limit_ms,
        ),
        AlarmSpec(
            "processor-errors", "The processor failed.", "AWS/Lambda", "Errors", function, "Sum", 0
        ),
        AlarmSpec(
            "processor-throttles", "The processor was throttled.",
            "AWS/Lambda", "Throttles", function, "Sum", 0,
        ),
        AlarmSpec(
            "processor-duration", "The processor comes close to its time-out.",
            "AWS/Lambda", "Duration", function, "p99", config.processor_timeout_s * 1000 * 0.8,
        ),
        AlarmSpec(
            "failure-queue", "The processor gave up on batches.",
            "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": names("failures")},
            "Maximum", 0,
        ),
        AlarmSpec(
            "timeseries-rejections", "Timestream rejected records.",
            NAMESPACE, "TimestreamRejected", own, "Sum", 0,
        ),
        AlarmSpec(
            "refused-readings", "The processor refused readings; they are in quarantine.",
            NAMESPACE, "ReadingsRefused", own, "Sum", 0,
        ),
        AlarmSpec(
            "critical-readings", "Readings are beyond their limits.",
            NAMESPACE, "CriticalReadings", own, "Sum", 0,
        ),
        AlarmSpec(
            "end-to-end-latency", "Readings take too long from device to processor.",
            NAMESPACE, "EndToEndLatency", own, "p99", config.latency_limit_ms,
        ),
        AlarmSpec(
            "archive-freshness", "The archive is behind.",
            "AWS/Firehose", "DeliveryToS3.DataFreshness",
            {"DeliveryStreamName": names.delivery_stream}, "Maximum", config.freshness_limit_s,
        ),
    ]  # fmt: skip
    if {spec.short for spec in specs} != set(ALARM_NAMES):
        raise AssertionError("ALARM_NAMES and alarm_specs disagree")
    return specs

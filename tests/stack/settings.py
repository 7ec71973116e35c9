"""Every setting of the stack: another value for it, and what of the stack changes with it.

`CHANGES` are updates in place on AWS. The others are listed with what they do instead.
"""

from __future__ import annotations

from typing import Any

from stack.alarms import ALARM_NAMES

SUBJECT = "aws_cloudwatch_metric_alarm.alarm-"
MAPPING = "aws_lambda_event_source_mapping.processor-source"
FUNCTION = "aws_lambda_function.processor"
STREAM = "aws_kinesis_stream.ingest"
TABLE = "aws_timestreamwrite_table.timeseries-table"
DELIVERY = "aws_kinesis_firehose_delivery_stream.archive-delivery"
LIFECYCLE = "aws_s3_bucket_lifecycle_configuration.archive-lifecycle"
DASHBOARD = "aws_cloudwatch_dashboard.dashboard"
LOGS = ("aws_cloudwatch_log_group.archive-logs", "aws_cloudwatch_log_group.processor-logs")

# Setting to (another value, (address, argument) of what is updated).
CHANGES: dict[str, tuple[Any, set[tuple[str, str]]]] = {
    "shards": (12, {(STREAM, "shard_count")}),
    "stream_retention_hours": (48, {(STREAM, "retention_period")}),
    "processor_memory_mb": (1024, {(FUNCTION, "memory_size")}),
    "processor_timeout_s": (
        90,
        {(FUNCTION, "timeout"), (f"{SUBJECT}processor-duration", "threshold")},
    ),
    "batch_size": (400, {(MAPPING, "batch_size")}),
    "batch_window_s": (2, {(MAPPING, "maximum_batching_window_in_seconds")}),
    "writes_at_once": (3, {(FUNCTION, "environment")}),
    "retry_attempts": (21, {(MAPPING, "maximum_retry_attempts")}),
    "record_age_s": (3600, {(MAPPING, "maximum_record_age_in_seconds")}),
    "timeseries_memory_hours": (48, {(TABLE, "retention_properties")}),
    "timeseries_magnetic_days": (8, {(TABLE, "retention_properties")}),
    "archive_buffer_mb": (32, {(DELIVERY, "extended_s3_configuration")}),
    "archive_buffer_s": (7, {(DELIVERY, "extended_s3_configuration")}),
    "archive_infrequent_after_days": (40, {(LIFECYCLE, "rule")}),
    "archive_expire_after_days": (400, {(LIFECYCLE, "rule")}),
    "destroy_archive_with_stack": (
        False,
        {("aws_s3_bucket.archive-bucket", "force_destroy")},
    ),
    "alarm_period_s": (30, {(SUBJECT + name, "period") for name in ALARM_NAMES}),
    "iterator_age_limit_ms": (31_000, {(f"{SUBJECT}iterator-age", "threshold")}),
    "latency_limit_ms": (11_000, {(f"{SUBJECT}end-to-end-latency", "threshold")}),
    "freshness_limit_s": (61, {(f"{SUBJECT}archive-freshness", "threshold")}),
    "silent_periods": (
        6,
        {
            (f"{SUBJECT}silent-fleet", "evaluation_periods"),
            (f"{SUBJECT}silent-fleet", "datapoints_to_alarm"),
        },
    ),
    "critical_limits": ({"temperature": {"max": 61.0}}, {(FUNCTION, "environment")}),
    "log_retention_days": (30, {(group, "retention_in_days") for group in LOGS}),
}
# It is on everything that can be tagged.
TAGS: dict[str, str] = {"team": "telemetry"}
# They are what the environment is: another value is another environment, beside the first.
IDENTITY = {"environment", "region"}
# It makes or deletes resources of its own.
OPTIONAL = {"iot_log_level", "probe_queue"}


def all_changed() -> dict[str, Any]:
    """Every setting that can be changed, changed."""
    return {name: value for name, (value, _) in CHANGES.items()}

"""What a deployed stack tells the rest of the world: the seam between deploying and using it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError
from fleetcast.home import deployment_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAME = "outputs.json"


@dataclass(frozen=True, slots=True)
class StackOutputs:
    """Names and addresses of one deployed environment. Every field is a Terraform output.

    Attributes:
        environment: The environment suffix.
        region: The AWS region.
        stream_name: Kinesis stream that takes the readings.
        stream_arn: Its ARN.
        function_name: The processor Lambda.
        timeseries_database: Timestream database.
        timeseries_table: Timestream table.
        delivery_stream_name: Firehose delivery stream.
        archive_bucket: S3 bucket of the archive.
        archive_prefix: Key prefix under which delivered objects lie, ending in `/`.
        archive_error_prefix: Key prefix of what Firehose could not deliver, ending in `/`.
        archive_buffer_s: Longest that Firehose holds a record before it delivers it, seconds.
        topic_arn: SNS topic of the alarms.
        probe_queue_url: SQS queue subscribed to the topic, or empty where there is none.
        failure_queue_url: SQS queue of batches the Lambda gave up on.
        quarantine_queue_url: SQS queue of readings the processor refused.
        rule_errors_queue_url: SQS queue of messages the topic rule could not deliver.
        signing_secret_arn: Secrets Manager secret with the HMAC key (text, UTF-8 bytes are the key).
        metric_namespace: CloudWatch namespace of the pipeline's own metrics.
        alarms: Short name (without prefix and suffix, such as `critical-readings`) to alarm name.
        alarm_period_s: Period of the alarms, seconds.
        dashboard_name: CloudWatch dashboard.
    """

    environment: str
    region: str
    stream_name: str
    stream_arn: str
    function_name: str
    timeseries_database: str
    timeseries_table: str
    delivery_stream_name: str
    archive_bucket: str
    archive_prefix: str
    archive_error_prefix: str
    archive_buffer_s: int
    topic_arn: str
    probe_queue_url: str
    failure_queue_url: str
    quarantine_queue_url: str
    rule_errors_queue_url: str
    signing_secret_arn: str
    metric_namespace: str
    alarms: dict[str, str]
    alarm_period_s: int
    dashboard_name: str

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> StackOutputs:
        """Builds outputs from Terraform's (name to value), ignoring outputs of other origin.

        Raises:
            UsageError: an output is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in values]
        if missing:
            raise UsageError(f"stack outputs lack {', '.join(missing)}: deploy the stack again")
        return cls(**{name: values[name] for name in names})

    def save(self, target: str) -> None:
        """Writes the outputs where `load` finds them."""
        folder = deployment_dir(target, self.environment)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, target: str, environment: str) -> StackOutputs:
        """Reads the outputs of a deployed environment.

        Raises:
            UsageError: nothing is deployed under that name.
        """
        path = deployment_dir(target, environment) / FILE_NAME
        if not path.exists():
            raise UsageError(
                f"no stack {environment!r} on target {target}: "
                f"run fleetcast deploy --target {target} --env {environment}"
            )
        return cls.from_mapping(json.loads(path.read_text()))

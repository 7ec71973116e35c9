"""The whole stack, composed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.alarms import NAMESPACE
from stack.bindings import PROVIDER_VERSION, aws, cdktf
from stack.constructs.archive import ERROR_PREFIX, PREFIX, archive
from stack.constructs.devices import iot_logging, provisioning
from stack.constructs.encryption import encryption_key
from stack.constructs.ingest import ingest_stream, iot_core
from stack.constructs.messaging import messaging
from stack.constructs.observability import alarms, dashboard
from stack.constructs.processor import processor
from stack.constructs.scope import Scope
from stack.constructs.timeseries import time_series
from stack.names import PREFIX as PROJECT
from stack.names import Names

if TYPE_CHECKING:
    from pathlib import Path

    from stack.config import StackConfig


class TelemetryStack(cdktf.TerraformStack):  # type: ignore[misc]  # cdktf is untyped here
    """An ingest, processing, storage, archive and alarm pipeline for one environment.

    Args:
        app: The CDKTF app.
        config: Settings of the environment.
        build_dir: Where files that go with the stack are made before they are copied.
    """

    def __init__(self, app: Any, config: StackConfig, build_dir: Path) -> None:
        super().__init__(app, f"{PROJECT}-{config.environment}")
        self._provider(config)
        account = aws.data_aws_caller_identity.DataAwsCallerIdentity(self, "account")
        names = Names(config.environment)
        scope = Scope(self, config, names, account.account_id)

        key = encryption_key(scope)
        messages = messaging(scope, key)
        stream = ingest_stream(scope, key)
        iot_core(scope, key, stream, messages)
        provisioning(scope)
        iot_logging(scope)
        series = time_series(scope, key)
        worker = processor(scope, key, stream, series, messages, build_dir)
        stored = archive(scope, key, stream)
        watched = alarms(scope, messages.topic)
        shown = dashboard(scope)

        self._output("environment", config.environment)
        self._output("region", config.region)
        self._output("stream_name", stream.name)
        self._output("stream_arn", stream.arn)
        self._output("function_name", worker.function.function_name)
        self._output("timeseries_database", series.database.database_name)
        self._output("timeseries_table", series.table.table_name)
        self._output("delivery_stream_name", stored.delivery_stream.name)
        self._output("archive_bucket", stored.bucket.bucket)
        self._output("archive_prefix", PREFIX)
        self._output("archive_error_prefix", ERROR_PREFIX)
        self._output("archive_buffer_s", config.archive_buffer_s)
        self._output("topic_arn", messages.topic.arn)
        self._output("probe_queue_url", messages.probe.url if messages.probe else "")
        self._output("failure_queue_url", messages.failures.url)
        self._output("quarantine_queue_url", messages.quarantine.url)
        self._output("rule_errors_queue_url", messages.rule_errors.url)
        self._output("signing_secret_arn", worker.secret.arn)
        self._output("metric_namespace", NAMESPACE)
        self._output("alarms", {short: alarm.alarm_name for short, alarm in watched.items()})
        self._output("alarm_period_s", config.alarm_period_s)
        self._output("dashboard_name", shown.dashboard_name)

    def _provider(self, config: StackConfig) -> None:
        provider = aws.provider
        provider.AwsProvider(
            self,
            "aws",
            region=config.region,
            default_tags=[
                provider.AwsProviderDefaultTags(
                    tags={"project": PROJECT, "environment": config.environment, **config.tags}
                )
            ],
        )
        cdktf.LocalBackend(self, path="terraform.tfstate")
        self.add_override(
            "terraform.required_providers.aws",
            {"source": "hashicorp/aws", "version": PROVIDER_VERSION},
        )

    def _output(self, name: str, value: Any) -> None:
        output = cdktf.TerraformOutput(self, f"output-{name}", value=value)
        output.override_logical_id(name)

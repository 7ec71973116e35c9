"""The processor: a Lambda that checks readings, writes them to Timestream, refuses the rest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.alarms import NAMESPACE
from stack.bindings import asset, aws, cdktf
from stack.constructs.scope import allow, log_group, role
from stack.lambda_zip import HANDLER, RUNTIME, build_zip

if TYPE_CHECKING:
    from pathlib import Path

    from stack.constructs.messaging import Messaging
    from stack.constructs.scope import Scope
    from stack.constructs.timeseries import TimeSeries


@dataclass(frozen=True, slots=True)
class Processor:
    """The function and the secret with its signing key."""

    function: Any
    secret: Any


def signing_secret(scope: Scope, key: Any) -> Any:
    """The secret with the key that devices sign readings with.

    Its first value is drawn by Secrets Manager when the stack is created: the synthesized stack
    holds no secret. Each plan draws another, which is ignored, so that a rotated key stays.
    """
    secret = aws.secretsmanager_secret.SecretsmanagerSecret(
        scope.stack,
        "signing-secret",
        name=scope.names("signing-key"),
        description="HMAC key of the readings",
        kms_key_id=key.arn,
        recovery_window_in_days=30 if scope.config.is_production else 0,
    )
    module = aws.data_aws_secretsmanager_random_password
    drawn = module.DataAwsSecretsmanagerRandomPassword(
        scope.stack, "signing-key", password_length=48, exclude_punctuation=True
    )
    aws.secretsmanager_secret_version.SecretsmanagerSecretVersion(
        scope.stack,
        "signing-secret-value",
        secret_id=secret.id,
        secret_string=drawn.random_password,
        lifecycle=cdktf.TerraformResourceLifecycle(ignore_changes=["secret_string"]),
    )
    return secret


def processor(
    scope: Scope,
    key: Any,
    stream: Any,
    series: TimeSeries,
    messages: Messaging,
    build_dir: Path,
) -> Processor:
    """Makes the secret, the function and its event source mapping."""
    config, name = scope.config, scope.names.function
    secret = signing_secret(scope, key)
    group = log_group(scope, "processor", f"/aws/lambda/{name}", key)
    function_role = role(
        scope,
        "processor",
        "lambda.amazonaws.com",
        [
            allow(
                ["kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords",
                 "kinesis:GetShardIterator", "kinesis:ListShards"],
                [stream.arn],
            ),
            allow(["timestream:WriteRecords"], [series.table.arn]),
            # Timestream has no resources for these: the endpoint is found before any is named.
            allow(["timestream:DescribeEndpoints"], ["*"]),
            allow(["secretsmanager:GetSecretValue"], [secret.arn]),
            allow(["sqs:SendMessage"], [messages.quarantine.arn, messages.failures.arn]),
            allow(["kms:Decrypt", "kms:GenerateDataKey"], [key.arn]),
            allow(["logs:CreateLogStream", "logs:PutLogEvents"], [f"{group.arn}:*"]),
        ],
    )  # fmt: skip
    packed = build_zip(build_dir / "processor.zip")
    code = asset(scope.stack, "processor-code", packed)
    module = aws.lambda_function
    function = module.LambdaFunction(
        scope.stack,
        "processor",
        function_name=name,
        role=function_role.arn,
        runtime=RUNTIME,
        handler=HANDLER,
        filename=code.path,
        source_code_hash=cdktf.Fn.filebase64sha256(code.path),
        memory_size=config.processor_memory_mb,
        timeout=config.processor_timeout_s,
        kms_key_arn=key.arn,
        environment=module.LambdaFunctionEnvironment(
            variables={
                "CRITICAL_LIMITS": json.dumps(
                    {
                        signal: limit.model_dump(exclude_none=True)
                        for signal, limit in config.critical_limits.items()
                    },
                    sort_keys=True,
                ),
                "ENVIRONMENT": config.environment,
                "METRICS_NAMESPACE": NAMESPACE,
                "POWERTOOLS_LOG_LEVEL": "WARNING",
                "QUARANTINE_QUEUE_URL": messages.quarantine.url,
                "SIGNING_SECRET_ARN": secret.arn,
                "TIMESERIES_DATABASE": series.database.database_name,
                "TIMESERIES_TABLE": series.table.table_name,
                "WRITES_AT_ONCE": str(config.writes_at_once),
            }
        ),
        depends_on=[group],
    )
    mapping = aws.lambda_event_source_mapping
    mapping.LambdaEventSourceMapping(
        scope.stack,
        "processor-source",
        event_source_arn=stream.arn,
        function_name=function.arn,
        starting_position="TRIM_HORIZON",
        batch_size=config.batch_size,
        maximum_batching_window_in_seconds=config.batch_window_s,
        parallelization_factor=1,
        maximum_retry_attempts=config.retry_attempts,
        maximum_record_age_in_seconds=config.record_age_s,
        bisect_batch_on_function_error=True,
        function_response_types=["ReportBatchItemFailures"],
        destination_config=mapping.LambdaEventSourceMappingDestinationConfig(
            on_failure=mapping.LambdaEventSourceMappingDestinationConfigOnFailure(
                destination_arn=messages.failures.arn
            )
        ),
    )
    return Processor(function, secret)

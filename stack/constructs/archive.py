"""The archive: every record of the stream as it came, through Firehose into S3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stack.bindings import aws
from stack.constructs.scope import allow, log_group, policy, role

if TYPE_CHECKING:
    from stack.constructs.scope import Scope

PREFIX = "readings/"
ERROR_PREFIX = "errors/"
UNFINISHED_DAYS = 7


@dataclass(frozen=True, slots=True)
class Archive:
    """The bucket and the delivery stream."""

    bucket: Any
    delivery_stream: Any


def archive(scope: Scope, key: Any, stream: Any) -> Archive:
    """Makes the bucket, then the delivery into it."""
    bucket = _bucket(scope, key)
    return Archive(bucket, _delivery_stream(scope, key, stream, bucket))


def _bucket(scope: Scope, key: Any) -> Any:
    """Private, versioned, encrypted, TLS only; old objects go to cheaper storage, then expire."""
    bucket = aws.s3_bucket.S3Bucket(
        scope.stack,
        "archive-bucket",
        bucket=f"{scope.names('archive')}-{scope.account_id}",
        force_destroy=scope.config.destroy_archive_with_stack,
    )
    versioning = aws.s3_bucket_versioning
    versioned = versioning.S3BucketVersioningA(
        scope.stack,
        "archive-versioning",
        bucket=bucket.id,
        versioning_configuration=versioning.S3BucketVersioningVersioningConfiguration(
            status="Enabled"
        ),
    )
    sse = aws.s3_bucket_server_side_encryption_configuration
    by_default = (
        sse.S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA(
            sse_algorithm="aws:kms", kms_master_key_id=key.arn
        )
    )
    sse.S3BucketServerSideEncryptionConfigurationA(
        scope.stack,
        "archive-encryption",
        bucket=bucket.id,
        rule=[
            sse.S3BucketServerSideEncryptionConfigurationRuleA(
                apply_server_side_encryption_by_default=by_default, bucket_key_enabled=True
            )
        ],
    )
    aws.s3_bucket_public_access_block.S3BucketPublicAccessBlock(
        scope.stack,
        "archive-public-access",
        bucket=bucket.id,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
    )
    owners = aws.s3_bucket_ownership_controls
    owners.S3BucketOwnershipControls(
        scope.stack,
        "archive-ownership",
        bucket=bucket.id,
        rule=owners.S3BucketOwnershipControlsRule(object_ownership="BucketOwnerEnforced"),
    )
    aws.s3_bucket_policy.S3BucketPolicy(
        scope.stack,
        "archive-policy",
        bucket=bucket.id,
        policy=policy(
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket.arn, f"{bucket.arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ),
    )
    _lifecycle(scope, bucket, versioned)
    return bucket


def _lifecycle(scope: Scope, bucket: Any, versioned: Any) -> None:
    module = aws.s3_bucket_lifecycle_configuration
    config = scope.config
    module.S3BucketLifecycleConfiguration(
        scope.stack,
        "archive-lifecycle",
        bucket=bucket.id,
        depends_on=[versioned],
        rule=[
            module.S3BucketLifecycleConfigurationRule(
                id="age",
                status="Enabled",
                filter=[module.S3BucketLifecycleConfigurationRuleFilter(prefix=PREFIX)],
                transition=[
                    module.S3BucketLifecycleConfigurationRuleTransition(
                        days=config.archive_infrequent_after_days, storage_class="STANDARD_IA"
                    )
                ],
                expiration=[
                    module.S3BucketLifecycleConfigurationRuleExpiration(
                        days=config.archive_expire_after_days
                    )
                ],
                noncurrent_version_expiration=[
                    module.S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration(
                        noncurrent_days=config.archive_infrequent_after_days
                    )
                ],
            ),
            # Parts of uploads that nobody completed are billed, and seen by nobody.
            module.S3BucketLifecycleConfigurationRule(
                id="unfinished-uploads",
                status="Enabled",
                filter=[module.S3BucketLifecycleConfigurationRuleFilter(prefix="")],
                abort_incomplete_multipart_upload=[
                    module.S3BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload(
                        days_after_initiation=UNFINISHED_DAYS
                    )
                ],
            ),
        ],
    )


def _delivery_stream(scope: Scope, key: Any, stream: Any, bucket: Any) -> Any:
    name = scope.names.delivery_stream
    group = log_group(scope, "archive", f"/aws/kinesisfirehose/{name}", key)
    log_stream = aws.cloudwatch_log_stream.CloudwatchLogStream(
        scope.stack, "archive-log-stream", name="delivery", log_group_name=group.name
    )
    reader = role(
        scope,
        "archive",
        "firehose.amazonaws.com",
        [
            allow(
                ["kinesis:DescribeStream", "kinesis:GetShardIterator", "kinesis:GetRecords",
                 "kinesis:ListShards"],
                [stream.arn],
            ),
            allow(
                ["s3:AbortMultipartUpload", "s3:GetBucketLocation", "s3:GetObject",
                 "s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:PutObject"],
                [bucket.arn, f"{bucket.arn}/*"],
            ),
            allow(["kms:Decrypt", "kms:GenerateDataKey"], [key.arn]),
            allow(["logs:PutLogEvents"], [f"{group.arn}:log-stream:*"]),
        ],
    )  # fmt: skip
    module = aws.kinesis_firehose_delivery_stream
    start = "KinesisFirehoseDeliveryStream"
    s3 = f"{start}ExtendedS3Configuration"
    return module.KinesisFirehoseDeliveryStream(
        scope.stack,
        "archive-delivery",
        name=name,
        destination="extended_s3",
        kinesis_source_configuration=getattr(module, f"{start}KinesisSourceConfiguration")(
            kinesis_stream_arn=stream.arn, role_arn=reader.arn
        ),
        extended_s3_configuration=getattr(module, s3)(
            role_arn=reader.arn,
            bucket_arn=bucket.arn,
            prefix=PREFIX + "!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:dd}/!{timestamp:HH}/",
            error_output_prefix=ERROR_PREFIX
            + "!{firehose:error-output-type}/!{timestamp:yyyy}/!{timestamp:MM}/!{timestamp:dd}/",
            buffering_size=scope.config.archive_buffer_mb,
            buffering_interval=scope.config.archive_buffer_s,
            compression_format="GZIP",
            kms_key_arn=key.arn,
            cloudwatch_logging_options=getattr(module, f"{s3}CloudwatchLoggingOptions")(
                enabled=True, log_group_name=group.name, log_stream_name=log_stream.name
            ),
            processing_configuration=getattr(module, f"{s3}ProcessingConfiguration")(
                enabled=True,
                processors=[
                    getattr(module, f"{s3}ProcessingConfigurationProcessors")(
                        type="AppendDelimiterToRecord",
                        parameters=[
                            getattr(module, f"{s3}ProcessingConfigurationProcessorsParameters")(
                                parameter_name="Delimiter", parameter_value="\\n"
                            )
                        ],
                    )
                ],
            ),
        ),
    )

"""Data at rest: the customer's key wherever there can be one, nothing public, logs that end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.preflight.document import Finding, block, refers_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.preflight.document import Document

# Type to the argument that names the key.
KEYS = {
    "aws_cloudwatch_log_group": "kms_key_id",
    "aws_kinesis_stream": "kms_key_id",
    "aws_lambda_function": "kms_key_arn",
    "aws_secretsmanager_secret": "kms_key_id",
    "aws_sns_topic": "kms_master_key_id",
    "aws_sqs_queue": "kms_master_key_id",
    "aws_timestreamwrite_database": "kms_key_id",
}
BLOCKS = (
    "block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"
)  # fmt: skip


def check_protection(document: Document) -> Iterator[Finding]:
    """Resources whose data is not encrypted with the stack's key, public, or kept for ever."""
    for kind, argument in KEYS.items():
        for address, given in document.of(kind):
            if not _is_customers(given.get(argument)):
                yield Finding("encryption", address, f"set {argument} to a key of the stack")
    for address, given in document.of("aws_kinesis_firehose_delivery_stream"):
        s3 = block(given.get("extended_s3_configuration"))
        if s3 and not _is_customers(s3.get("kms_key_arn")):
            text = "set kms_key_arn of extended_s3_configuration to a key of the stack"
            yield Finding("encryption", address, text)
    for address, given in document.of("aws_kms_key"):
        if given.get("enable_key_rotation") is not True:
            yield Finding("encryption", address, "set enable_key_rotation")
    for address, _ in document.of("aws_s3_bucket"):
        yield from _check_bucket(document, address)
    for address, given in document.of("aws_cloudwatch_log_group"):
        if not given.get("retention_in_days"):
            yield Finding("log-retention", address, "keeps logs for ever: set retention_in_days")


def _check_bucket(document: Document, address: str) -> Iterator[Finding]:
    blocks = list(document.about("aws_s3_bucket_public_access_block", "bucket", address))
    if not any(all(given.get(name) is True for name in BLOCKS) for given in blocks):
        text = "is not closed to the public: give it a public access block with all four set"
        yield Finding("public", address, text)
    encryptions = document.about(
        "aws_s3_bucket_server_side_encryption_configuration", "bucket", address
    )
    if not any(_is_encrypted(given) for given in encryptions):
        text = "is not encrypted with a key of the stack: configure aws:kms with it"
        yield Finding("encryption", address, text)
    versions = document.about("aws_s3_bucket_versioning", "bucket", address)
    if not any(
        block(given.get("versioning_configuration")).get("status") == "Enabled"
        for given in versions
    ):
        yield Finding("versioning", address, "keeps no versions: enable versioning")


def _is_encrypted(given: dict[str, Any]) -> bool:
    rule = block(given.get("rule"))
    default = block(rule.get("apply_server_side_encryption_by_default"))
    return default.get("sse_algorithm") == "aws:kms" and _is_customers(
        default.get("kms_master_key_id")
    )


def _is_customers(value: Any) -> bool:
    """Whether a value names a key of the customer's, not one that AWS keeps."""
    if not isinstance(value, str) or value.startswith("alias/aws/"):
        return False
    return refers_to(value, "aws_kms_key") or "${aws_kms_key." in value or ":key/" in value

"""Names: each carries the environment's suffix and is one that its service takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stack.preflight.document import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.preflight.document import Document

ACCOUNT = "000000000000"
_ACCOUNT = re.compile(r"\$\{data\.aws_caller_identity\.[\w-]+\.account_id\}")
# Type to (argument, longest name, alphabet), from each service's API reference.
NAMED = {
    "aws_cloudwatch_dashboard": ("dashboard_name", 255, r"[A-Za-z0-9_-]+"),
    "aws_cloudwatch_log_group": ("name", 512, r"[A-Za-z0-9_/.#-]+"),
    "aws_cloudwatch_metric_alarm": ("alarm_name", 255, r"[^:]+"),
    "aws_iam_role": ("name", 64, r"[\w+=,.@-]+"),
    "aws_iam_role_policy": ("name", 128, r"[\w+=,.@-]+"),
    "aws_iot_policy": ("name", 128, r"[\w+=,.@-]+"),
    "aws_iot_provisioning_template": ("name", 36, r"[0-9A-Za-z_-]+"),
    "aws_iot_thing_group": ("name", 128, r"[a-zA-Z0-9:_-]+"),
    "aws_iot_thing_type": ("name", 128, r"[a-zA-Z0-9:_-]+"),
    "aws_iot_topic_rule": ("name", 128, r"[a-zA-Z0-9_]+"),
    "aws_kinesis_firehose_delivery_stream": ("name", 64, r"[a-zA-Z0-9_.-]+"),
    "aws_kinesis_stream": ("name", 128, r"[a-zA-Z0-9_.-]+"),
    "aws_kms_alias": ("name", 256, r"alias/[a-zA-Z0-9/_-]+"),
    "aws_lambda_function": ("function_name", 64, r"[a-zA-Z0-9_-]+"),
    "aws_s3_bucket": ("bucket", 63, r"[a-z0-9][a-z0-9.-]+[a-z0-9]"),
    "aws_secretsmanager_secret": ("name", 512, r"[a-zA-Z0-9/_+=.@-]+"),
    "aws_sns_topic": ("name", 256, r"[a-zA-Z0-9_-]+"),
    "aws_sqs_queue": ("name", 80, r"[a-zA-Z0-9_-]+(?:\.fifo)?"),
    "aws_timestreamwrite_database": ("database_name", 256, r"[a-zA-Z0-9_.-]+"),
    "aws_timestreamwrite_table": ("table_name", 256, r"[a-zA-Z0-9_.-]+"),
}


def check_names(document: Document) -> Iterator[Finding]:
    """Names that lack the suffix, are too long, or have letters that AWS does not take."""
    suffix = document.environment
    # The account's number may follow it, which makes the name of a bucket one in the world.
    carries = re.compile(rf".*[-_]{re.escape(suffix)}(?:-{ACCOUNT}|\.fifo)?")
    for kind, (argument, longest, alphabet) in NAMED.items():
        for address, given in document.of(kind):
            name = given.get(argument)
            if not isinstance(name, str) or not name:
                text = f"has no {argument} of its own: give it one that ends in -{suffix}"
                yield Finding("suffix", address, text)
                continue
            plain = _ACCOUNT.sub(ACCOUNT, name)
            # IoT's rule names take no hyphens.
            spelt = plain.replace("_", "-") if kind == "aws_iot_topic_rule" else plain
            if not carries.fullmatch(spelt):
                yield Finding("suffix", address, f"{argument} {name!r} does not end in -{suffix}")
            if len(plain) > longest:
                text = f"{argument} {name!r} has {len(plain)} letters: AWS takes {longest}"
                yield Finding("name", address, text)
            if not re.fullmatch(alphabet, plain):
                text = f"{argument} {name!r} has letters that AWS does not take there"
                yield Finding("name", address, text)

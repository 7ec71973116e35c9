"""Who answers which operation: the local cloud, moto (control plane only), or nobody."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore import xform_name

from localcloud.naming import operation_names

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    "kinesis": "Kinesis Data Streams",
    "timestream": "Timestream for LiveAnalytics, write and query",
    "lambda": "Lambda",
    "firehose": "Data Firehose",
    "monitoring": "CloudWatch",
    "iam": "IAM",
    "iot": "IoT Core",
    "kms": "KMS",
    "logs": "CloudWatch Logs",
    "secretsmanager": "Secrets Manager",
    "sns": "SNS",
    "sqs": "SQS",
    "sts": "STS",
}
# Services of the pipeline that moto answers. S3 is not among them: moto chooses its handlers by
# hand, so that their names do not tell the operations.
BY_MOTO = ("iam", "iot", "kms", "logs", "secretsmanager", "sns", "sqs", "sts")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Operations of one service: who answers, which are answered, and which are refused."""

    service: str
    by: str
    answered: tuple[str, ...]
    refused: tuple[str, ...]


def coverage(own: Mapping[str, list[str]]) -> list[Coverage]:
    """The services of the pipeline, own ones first.

    Args:
        own: Operations that own services answer, by signing name.
    """
    found = []
    for service in dict.fromkeys([*own, *BY_MOTO]):
        known = operation_names(service)
        answered = known & set(own.get(service, ()))
        by = "the local cloud"
        if service in BY_MOTO:
            by = (
                f"moto, the local cloud minding {', '.join(sorted(answered))}"
                if answered
                else "moto"
            )
            answered |= known & _implemented(service)
        found.append(
            Coverage(service, by, tuple(sorted(answered)), tuple(sorted(known - answered)))
        )
    return found


def tables(own: Mapping[str, list[str]]) -> str:
    """The part of docs/local-cloud.md that the code knows, in Markdown.

    Args:
        own: Operations that own services answer, by signing name.
    """
    parts = []
    for one in coverage(own):
        known = len(one.answered) + len(one.refused)
        parts += [
            f"### {TITLES[one.service]} (`{one.service}`)",
            "",
            f"Answered by {one.by}: {len(one.answered)} of {known} operations.",
            "",
            f"- Answered: {', '.join(one.answered)}",
        ]
        if one.service not in BY_MOTO:
            parts.append(f"- Refused: {', '.join(one.refused) or 'none'}")
        parts.append("")
    return "\n".join(parts)


def _implemented(service: str) -> frozenset[str]:
    """The operations that moto has a handler for."""
    from moto.core.responses import BaseResponse  # noqa: PLC0415 - slow

    module = importlib.import_module(f"moto.{service}.responses")
    handlers = {
        name
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseResponse) and kind.__module__ == module.__name__
        for name in dir(kind)
    }
    return frozenset(name for name in operation_names(service) if xform_name(name) in handlers)

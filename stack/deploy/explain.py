"""Errors of both engines whose cause is known, with what to do about them."""

from __future__ import annotations

import re

from stack.deploy.access import CLOSED, CLOSED_TOLD


def explain(error: str) -> str:
    """An error of Terraform or of AWS, with what to do where the cause is known."""
    for pattern, told in _EXPLAINED:
        if pattern.search(error):
            return f"{told} ({error})"
    return error


_EXPLAINED = (
    (CLOSED, CLOSED_TOLD),
    (
        re.compile(r"ailed to query available provider packages|ailed to install provider"),
        "the AWS provider cannot be had: check the network or a provider mirror",
    ),
    (
        re.compile(r"Error acquiring the state lock"),
        (
            "somebody else deploys or destroys this environment, or was killed while doing so: wait, "
            "or, when nobody does, run terraform force-unlock with the ID that follows"
        ),
    ),
    (
        re.compile(r"NoSuchBucket|S3 bucket .* does not exist"),
        "the bucket of --state-bucket is not there: create it, with versioning on",
    ),
    (
        re.compile(r"BucketNotEmpty"),
        (
            "the archive still has readings, and this environment keeps them: empty the bucket, or "
            "deploy with --set destroy_archive_with_stack=true before you destroy"
        ),
    ),
    (
        re.compile(
            r"UpdateShardCount.*(LimitExceeded|InvalidArgument|ValidationException)|"
            r"(LimitExceeded|InvalidArgument|ValidationException).*UpdateShardCount"
        ),
        (
            "Kinesis refused the number of shards: it takes twice as many or half as many at a time, "
            "within the account's limit"
        ),
    ),
)

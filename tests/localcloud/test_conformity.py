"""Every operation that is served answers as botocore's model of it says, called by botocore."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.naming import SIGNING_NAMES
from tests.localcloud.calls import CALLS
from tests.localcloud.wire import Wire

Results = dict[tuple[str, str], list[str]]
# AWS itself leaves out the required ARN of a function that has no code signing.
AS_AWS_DOES = {"GetFunctionCodeSigningConfig lacks CodeSigningConfigArn"}


@pytest.fixture(scope="module")
def served(blocking_port: int) -> dict[str, list[str]]:
    url = f"http://127.0.0.1:{blocking_port}/_fleetcast/operations"
    with urllib.request.urlopen(url) as answer:
        told: dict[str, list[str]] = json.loads(answer.read())
    return told


def _client(port: int, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
        aws_access_key_id="fleetcast-local", aws_secret_access_key="fleetcast-local",
        config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
    )  # fmt: skip


@pytest.fixture(scope="module")
def results(blocking_port: int, served: dict[str, list[str]]) -> Results:
    """What was wrong with each operation's answers; empty where nothing was."""
    s3 = _client(blocking_port, "s3")
    s3.create_bucket(Bucket="conform")
    s3.put_object(Bucket="conform", Key="load/a.csv", Body=b"at,d,v")
    # A batch load can be resumed where S3 has stopped it.
    _faults(blocking_port, "POST", {"service": "s3", "operation": "GetObject", "kind": "throttle"})
    _client(blocking_port, "sqs").create_queue(QueueName="conform")
    _client(blocking_port, "kinesis").create_stream(StreamName="source", ShardCount=1)
    logs = _client(blocking_port, "logs")
    logs.create_log_group(logGroupName="conform")
    logs.create_log_stream(logGroupName="conform", logStreamName="one")
    iot = _client(blocking_port, "iot")
    iot.create_policy(policyName="conform", policyDocument='{"Version": "2012-10-17"}')
    iot.create_thing_group(thingGroupName="conform")
    found: Results = {}
    for service, rows in CALLS:
        signing_name = SIGNING_NAMES.get(service, service)
        client, wire = _client(blocking_port, service), Wire()
        was: dict[str, Any] = {"client": client}
        wire.watch(client)
        methods = {api: method for method, api in client.meta.method_to_api_mapping.items()}
        for operation, parameters in rows:
            if operation not in served[signing_name]:
                continue
            mistakes = found.setdefault((signing_name, operation), [])
            try:
                given = parameters(was) if callable(parameters) else parameters
                was[operation] = getattr(client, methods[operation])(**given)
            except ClientError as error:
                mistakes.append(f"refused: {error}")
            except KeyError as error:
                mistakes.append(f"not called, because {error} was refused")
            mistakes += set(wire.mistakes) - AS_AWS_DOES
    _faults(blocking_port, "DELETE")
    return found


def _faults(port: int, method: str, fault: dict[str, str] | None = None) -> None:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/_fleetcast/faults", method=method,
        data=json.dumps(fault).encode() if fault else None,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    urllib.request.urlopen(asked).close()  # noqa: S310 - the same


def test_every_served_operation_has_a_row(results: Results, served: dict[str, list[str]]) -> None:
    missing = [
        f"{service}:{operation}"
        for service, operations in served.items()
        for operation in operations
        if (service, operation) not in results
    ]
    assert missing == [], "served, and tests/localcloud/calls.py has no row for it"
    assert sum(map(len, served.values())) > 90


def test_every_answer_is_as_its_model_says(results: Results) -> None:
    assert {where: told for where, told in results.items() if told} == {}

"""Requests that a service's model does not allow: the words and codes that AWS has for them."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localcloud.http import AwsError
from localcloud.naming import operation_model
from localcloud.validation import check

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def unchecked(cloud):
    """A client of a service that sends whatever it is given."""

    async def call(service: str, operation: str, **parameters: Any) -> Any:
        async with cloud.target.client(
            service, parameter_validation=False, retries={"total_max_attempts": 1}
        ) as client:
            return await getattr(client, operation)(**parameters)

    return call


S3 = {"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::b"}


@pytest.mark.parametrize(
    ("call", "parameters", "code", "told"),
    [
        ("kinesis.create_stream", {}, "ValidationException",
         "1 validation error detected: Value null at 'streamName' failed to satisfy"),
        ("kinesis.create_stream", {"StreamName": "a b", "ShardCount": 0}, "ValidationException",
         "regular expression pattern: [a-zA-Z0-9_.-]+; Value '0' at 'shardCount' failed"),
        ("kinesis.create_stream", {"StreamName": "s" * 129, "ShardCount": 1},
         "ValidationException", "Member must have length less than or equal to 128"),
        ("kinesis.create_stream", {"StreamName": "s", "ShardCount": "one"},
         "SerializationException", "shardCount must be a number of type integer, and is str"),
        ("kinesis.get_shard_iterator",
         {"StreamName": "s", "ShardId": "x", "ShardIteratorType": "FIRST"}, "ValidationException",
         "Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, "),
        ("kinesis.list_streams", {"Limit": 10_001}, "ValidationException", "at 'limit'"),
        ("firehose.create_delivery_stream",
         {"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration":
          {**S3, "BufferingHints": {"IntervalInSeconds": 901}}}, "ValidationException",
         "at 'extendedS3DestinationConfiguration.bufferingHints.intervalInSeconds' failed"),
        ("firehose.create_delivery_stream",
         {"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration":
          {**S3, "FileExtension": "gz"}}, "ValidationException",
         "at 'extendedS3DestinationConfiguration.fileExtension' failed"),
        ("firehose.put_record", {"DeliveryStreamName": "d"}, "ValidationException",
         "Value null at 'record'"),
        ("firehose.create_delivery_stream",
         {"DeliveryStreamName": "d", "Tags": [{"Value": "v"}]}, "ValidationException",
         "Value null at 'tags.1.member.key'"),
        ("lambda.create_function",
         {"FunctionName": "f", "Role": "nobody", "Handler": "a.b", "Runtime": "python3.12",
          "Code": {"ZipFile": b""}, "Timeout": 0}, "ValidationException",
         "2 validation errors detected: Value 'nobody' at 'role'"),
        ("lambda.get_function", {"FunctionName": "a b"}, "ValidationException",
         "'functionName' failed to satisfy constraint: Member must satisfy regular expression"),
        ("lambda.list_functions", {"MaxItems": 0}, "ValidationException", "Value '0' at 'maxItems'"),
        ("logs.put_metric_filter",
         {"logGroupName": "a b", "filterName": "f", "filterPattern": "",
          "metricTransformations": []}, "InvalidParameterException",
         "2 validation errors detected: Value 'a b' at 'logGroupName'"),
        ("timestream-write.create_database", {}, "ValidationException", "'databaseName'"),
        ("timestream-write.create_table",
         {"DatabaseName": "ddd", "TableName": "ttt", "RetentionProperties":
          {"MemoryStoreRetentionPeriodInHours": 0, "MagneticStoreRetentionPeriodInDays": 1}},
         "ValidationException", "'retentionProperties.memoryStoreRetentionPeriodInHours'"),
        ("timestream-query.query", {"QueryString": "SELECT 1", "MaxRows": 1001},
         "ValidationException", "Member must have value less than or equal to 1000"),
        ("cloudwatch.set_alarm_state",
         {"AlarmName": "a", "StateValue": "GOOD", "StateReason": "r"}, "ValidationError",
         "Member must satisfy enum value set: [OK, ALARM, INSUFFICIENT_DATA]"),
    ],
)  # fmt: skip
async def test_what_the_model_does_not_allow_is_refused_in_aws_words(
    unchecked, call, parameters, code, told
):
    service, _, operation = call.partition(".")
    with pytest.raises(ClientError) as caught:
        await unchecked(service, operation, **parameters)
    assert caught.value.response["Error"]["Code"] == code
    assert told in caught.value.response["Error"]["Message"]


async def test_a_null_member_counts_as_absent(cloud, raw, name):
    answer = await raw.json_call(
        "kinesis", "Kinesis_20131202.CreateStream",
        {"StreamName": name, "ShardCount": 1, "StreamModeDetails": None, "Tags": None},
    )  # fmt: skip
    assert answer.status == 200


@pytest.mark.parametrize(
    ("records", "code"),
    [
        (None, "ValidationException"),
        ("x", "SerializationException"),
        ([1], "SerializationException"),
        ([{"Data": 5, "PartitionKey": "k"}], "SerializationException"),
        ([{"Data": "YQ==", "PartitionKey": {}}], "SerializationException"),
        ([{"Data": "YQ==", "PartitionKey": "k", "ExplicitHashKey": 3}], "InvalidArgumentException"),
        ([{"PartitionKey": "k"}], "ValidationException"),
        ([], "ValidationException"),
    ],
)
async def test_a_malformed_put_is_refused_as_a_whole(raw, stream_of, records, code):
    stream = await stream_of()
    answer = await raw.json_call(
        "kinesis", "Kinesis_20131202.PutRecords", {"StreamName": stream.name, "Records": records}
    )
    assert (answer.status, answer.json()["__type"]) == (400, code)


async def test_errors_of_cbor_come_in_cbor(raw):
    answer = await raw.call(
        "POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData",
        cbor2.dumps({"Namespace": ""}), service="monitoring",
        headers={"smithy-protocol": "rpc-v2-cbor", "content-type": "application/cbor"},
    )  # fmt: skip
    assert answer.status == 400
    assert answer.headers["smithy-protocol"] == "rpc-v2-cbor"
    told = cbor2.loads(answer.body)
    assert told["__type"] == "ValidationError"
    assert "'namespace'" in told["message"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
OPERATIONS = [
    ("kinesis", "CreateStream"), ("firehose", "CreateDeliveryStream"),
    ("lambda", "CreateFunction"), ("timestream", "CreateTable"), ("monitoring", "PutMetricAlarm"),
]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first example reads the models
@given(st.sampled_from(OPERATIONS), st.data())
async def test_whatever_a_member_is_given_it_passes_or_is_refused_as_a_client_error(where, data):
    shape = operation_model(*where).input_shape
    names = st.sampled_from(sorted(shape.members))
    body = data.draw(st.dictionaries(names, VALUES, max_size=4))
    refused = None
    try:
        check(shape, body)
    except AwsError as error:
        refused = error
    if refused is None:
        assert set(shape.required_members) <= set(body)
        assert None not in body.values()
    else:
        assert (refused.status, refused.code) in {
            (400, "ValidationException"), (400, "SerializationException")
        }  # fmt: skip

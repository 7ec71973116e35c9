"""Makes a pipeline that has nothing of fleetcast: the one that pipeline.yaml beside it describes.

AWS_ENDPOINT_URL, credentials and region come from the environment, as for any AWS client.
"""

import asyncio
import io
import json
import os
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session

SERVICES = ("kinesis", "timestream-write", "s3", "sqs", "iam", "lambda", "firehose", "cloudwatch")
MAY = {
    "plant-writer": [
        "kinesis:*", "timestream:*", "sqs:SendMessage", "cloudwatch:PutMetricData", "logs:*",
    ],
    "plant-archive": ["kinesis:*", "s3:*", "logs:*"],
}  # fmt: skip
TRUSTED = {"plant-writer": "lambda", "plant-archive": "firehose"}


async def build(code: str) -> None:
    """Makes everything.

    Args:
        code: Of the function, a module.
    """
    async with AsyncExitStack() as stack:
        session = get_session()
        aws = {
            name: await stack.enter_async_context(session.create_client(name)) for name in SERVICES
        }
        await aws["kinesis"].create_stream(StreamName="plant-ingest", ShardCount=2)
        await aws["kinesis"].get_waiter("stream_exists").wait(StreamName="plant-ingest")
        told = await aws["kinesis"].describe_stream_summary(StreamName="plant-ingest")
        stream = told["StreamDescriptionSummary"]["StreamARN"]
        await aws["timestream-write"].create_database(DatabaseName="plant")
        await aws["timestream-write"].create_table(DatabaseName="plant", TableName="telemetry")
        await aws["s3"].create_bucket(Bucket="plant-raw")
        rejected = (await aws["sqs"].create_queue(QueueName="plant-rejected"))["QueueUrl"]
        roles = {name: await role(aws["iam"], name) for name in MAY}
        await aws["lambda"].create_function(
            FunctionName="plant-writer",
            Runtime="python3.12",
            Role=roles["plant-writer"],
            Handler="writer.handler",
            Code={"ZipFile": zipped(code)},
            Timeout=30,
            Environment={"Variables": {"REJECTED": rejected}},
        )
        await aws["lambda"].create_event_source_mapping(
            FunctionName="plant-writer", EventSourceArn=stream, StartingPosition="TRIM_HORIZON"
        )
        await archive(aws["firehose"], stream, roles["plant-archive"])
        await aws["cloudwatch"].put_metric_alarm(
            AlarmName="plant-too-hot",
            Namespace="Plant",
            MetricName="Hottest",
            Statistic="Maximum",
            Period=10,
            EvaluationPeriods=1,
            Threshold=60,
            ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching",
        )


async def role(iam: Any, name: str) -> str:
    """A role for a service; returns its ARN."""
    trust = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": f"{TRUSTED[name]}.amazonaws.com"},
    }
    made = await iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
    allowed = {"Effect": "Allow", "Action": MAY[name], "Resource": "*"}
    await iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=document(allowed))
    return str(made["Role"]["Arn"])


async def archive(firehose: Any, stream: str, role_arn: str) -> None:
    """A delivery stream: a line for each payload, not compressed, a prefix for each day."""
    newline = {
        "Type": "AppendDelimiterToRecord",
        "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}],
    }
    await firehose.create_delivery_stream(
        DeliveryStreamName="plant-archive",
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": stream, "RoleARN": role_arn},
        ExtendedS3DestinationConfiguration={
            "RoleARN": role_arn,
            "BucketARN": "arn:aws:s3:::plant-raw",
            "Prefix": "raw/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/",
            "ErrorOutputPrefix": "failed/!{firehose:error-output-type}/",
            "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1},
            "ProcessingConfiguration": {"Enabled": True, "Processors": [newline]},
        },
    )


def document(statement: dict[str, Any]) -> str:
    """A policy of one statement."""
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def zipped(code: str) -> bytes:
    """A function's code as Lambda takes it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("writer.py", code)
    return packed.getvalue()


if __name__ == "__main__":
    source = Path(os.environ.get("WRITER", Path(__file__).with_name("writer.py")))
    asyncio.run(build(source.read_text()))

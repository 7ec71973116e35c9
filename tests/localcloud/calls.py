"""For each own service, calls in an order that works and that reaches every operation it serves.

Later rows use what earlier ones made. `was` gives a row the answers so far, by operation.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Row = tuple[str, dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]]

ROLE = "arn:aws:iam::123456789012:role/r"
KINESIS = "arn:aws:kinesis:us-east-1:123456789012:stream/"
FIREHOSE = "arn:aws:firehose:us-east-1:123456789012:deliverystream/"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:"
TIMESTREAM = "arn:aws:timestream:us-east-1:123456789012:database/"
ALARM = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
KEY = "alias/aws/kinesis"
SHARD = "shardId-000000000000"
S = {"StreamName": "conform"}
A = {"StreamARN": KINESIS + "conform"}
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow", "Principal": {"AWS": "123456789012"},
                "Action": "kinesis:GetRecords", "Resource": KINESIS + "conform",
            }
        ],
    }
)  # fmt: skip


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return event")
    return packed.getvalue()


CALLS_KINESIS: list[Row] = [
    ("CreateStream", {**S, "ShardCount": 2, "Tags": {"a": "b"}}),
    ("PutRecord", {**S, "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "0"}),
    ("PutRecords", {**S, "Records": [{"Data": b"x", "PartitionKey": "k"}]}),
    ("DescribeStream", S),
    ("DescribeStreamSummary", A),
    ("ListStreams", {"Limit": 5}),
    ("ListShards", S),
    ("DescribeLimits", {}),
    ("GetShardIterator", {**S, "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}),
    ("GetRecords", lambda was: {"ShardIterator": was["GetShardIterator"]["ShardIterator"]}),
    ("IncreaseStreamRetentionPeriod", {**S, "RetentionPeriodHours": 48}),
    ("DecreaseStreamRetentionPeriod", {**S, "RetentionPeriodHours": 24}),
    ("StartStreamEncryption", {**S, "EncryptionType": "KMS", "KeyId": KEY}),
    ("DescribeStream", S),
    ("StopStreamEncryption", {**S, "EncryptionType": "KMS", "KeyId": KEY}),
    ("EnableEnhancedMonitoring", {**S, "ShardLevelMetrics": ["ALL"]}),
    ("DisableEnhancedMonitoring", {**S, "ShardLevelMetrics": ["IncomingBytes"]}),
    ("AddTagsToStream", {**S, "Tags": {"c": "d"}}),
    ("ListTagsForStream", S),
    ("RemoveTagsFromStream", {**S, "TagKeys": ["c"]}),
    ("TagResource", {"ResourceARN": KINESIS + "conform", "Tags": {"e": "f"}}),
    ("ListTagsForResource", {"ResourceARN": KINESIS + "conform"}),
    ("UntagResource", {"ResourceARN": KINESIS + "conform", "TagKeys": ["e"]}),
    ("RegisterStreamConsumer", {**A, "ConsumerName": "one"}),
    ("DescribeStreamConsumer", {**A, "ConsumerName": "one"}),
    ("ListStreamConsumers", A),
    (
        "SubscribeToShard",
        lambda was: {
            "ConsumerARN": was["RegisterStreamConsumer"]["Consumer"]["ConsumerARN"],
            "ShardId": SHARD, "StartingPosition": {"Type": "TRIM_HORIZON"},
        },
    ),
    ("DeregisterStreamConsumer", {**A, "ConsumerName": "one"}),
    ("PutResourcePolicy", {"ResourceARN": KINESIS + "conform", "Policy": POLICY}),
    ("GetResourcePolicy", {"ResourceARN": KINESIS + "conform"}),
    ("DeleteResourcePolicy", {"ResourceARN": KINESIS + "conform"}),
    ("UpdateMaxRecordSize", {**A, "MaxRecordSizeInKiB": 2048}),
    ("DescribeAccountSettings", {}),
    ("UpdateStreamMode", {**A, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
    (
        "UpdateAccountSettings",
        {"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}},
    ),
    ("UpdateStreamWarmThroughput", {**A, "WarmThroughputMiBps": 10}),
    ("UpdateStreamRecordDistributionStrategy", {**A, "RecordDistributionStrategy": "AUTO"}),
    ("UpdateStreamMode", {**A, "StreamModeDetails": {"StreamMode": "PROVISIONED"}}),
    ("CreateStream", {"StreamName": "reshard", "ShardCount": 2}),
    (
        "MergeShards",
        {
            "StreamName": "reshard", "ShardToMerge": SHARD,
            "AdjacentShardToMerge": "shardId-000000000001",
        },
    ),
    (
        "SplitShard",
        {
            "StreamName": "reshard", "ShardToSplit": "shardId-000000000002",
            "NewStartingHashKey": str(2**127),
        },
    ),
    ("GetShardIterator",
     {"StreamName": "reshard", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON"}),
    ("GetRecords", lambda was: {"ShardIterator": was["GetShardIterator"]["ShardIterator"]}),
    (
        "UpdateShardCount",
        {"StreamName": "reshard", "TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"},
    ),
    ("DeleteStream", {"StreamName": "reshard"}),
]  # fmt: skip

T = {"DatabaseName": "conform", "TableName": "table"}


def _stopped(was: dict[str, Any]) -> dict[str, Any]:
    """The batch load's task, when S3 has stopped it."""
    task, ends_s = was["CreateBatchLoadTask"], time.monotonic() + 30
    while time.monotonic() < ends_s:
        told = was["client"].describe_batch_load_task(**_of(task))["BatchLoadTaskDescription"]
        if told["TaskStatus"] == "PROGRESS_STOPPED":
            break
        time.sleep(0.01)
    return _of(task)


def _of(task: dict[str, Any]) -> dict[str, Any]:
    return {"TaskId": task["TaskId"]}


CALLS_TIMESTREAM_WRITE: list[Row] = [
    ("DescribeEndpoints", {}),
    ("CreateDatabase", {"DatabaseName": "conform", "Tags": [{"Key": "a", "Value": "b"}]}),
    ("DescribeDatabase", {"DatabaseName": "conform"}),
    ("UpdateDatabase", {"DatabaseName": "conform", "KmsKeyId": "alias/one"}),
    ("ListDatabases", {"MaxResults": 1}),
    ("CreateTable", T),
    ("DescribeTable", T),
    (
        "UpdateTable",
        {
            **T,
            "RetentionProperties": {
                "MemoryStoreRetentionPeriodInHours": 12, "MagneticStoreRetentionPeriodInDays": 7,
            },
            "MagneticStoreWriteProperties": {"EnableMagneticStoreWrites": True},
        },
    ),
    ("ListTables", {"DatabaseName": "conform"}),
    (
        "WriteRecords",
        lambda _: {
            **T,
            "CommonAttributes": {"Dimensions": [{"Name": "d", "Value": "1"}]},
            "Records": [
                {
                    "MeasureName": "m", "MeasureValueType": "MULTI",
                    "Time": str(int(time.time() * 1000)),
                    "MeasureValues": [
                        {"Name": "a", "Value": "1.5", "Type": "DOUBLE"},
                        {"Name": "b", "Value": "2", "Type": "BIGINT"},
                    ],
                },
                {
                    "MeasureName": "n", "MeasureValue": "yes", "MeasureValueType": "VARCHAR",
                    "Time": str(int(time.time() * 1000)),
                },
            ],
        },
    ),
    ("TagResource", {"ResourceARN": TIMESTREAM + "conform", "Tags": [{"Key": "k", "Value": "v"}]}),
    ("ListTagsForResource", {"ResourceARN": TIMESTREAM + "conform"}),
    ("UntagResource", {"ResourceARN": TIMESTREAM + "conform", "TagKeys": ["k"]}),
    (
        "CreateBatchLoadTask",
        {
            "TargetDatabaseName": "conform", "TargetTableName": "table",
            "DataSourceConfiguration": {
                "DataSourceS3Configuration": {"BucketName": "conform", "ObjectKeyPrefix": "load/"},
                "DataFormat": "CSV",
            },
            "DataModelConfiguration": {
                "DataModel": {
                    "TimeColumn": "at", "DimensionMappings": [{"SourceColumn": "d"}],
                    "MixedMeasureMappings": [{"SourceColumn": "v", "MeasureValueType": "DOUBLE"}],
                }
            },
            "ReportConfiguration": {"ReportS3Configuration": {"BucketName": "conform"}},
        },
    ),
    ("ResumeBatchLoadTask", _stopped),
    ("DescribeBatchLoadTask", lambda was: _of(was["CreateBatchLoadTask"])),
    ("ListBatchLoadTasks", {"MaxResults": 1}),
]  # fmt: skip
SELECT = 'SELECT * FROM "conform"."table"'


def _scheduled(was: dict[str, Any]) -> dict[str, Any]:
    return {"ScheduledQueryArn": was["CreateScheduledQuery"]["Arn"]}


CALLS_TIMESTREAM_QUERY: list[Row] = [
    ("DescribeEndpoints", {}),
    ("UpdateAccountSettings", {"MaxQueryTCU": 200, "QueryPricingModel": "COMPUTE_UNITS"}),
    ("DescribeAccountSettings", {}),
    ("Query", {"QueryString": SELECT}),
    ("Query", {"QueryString": 'SHOW TABLES FROM "conform"'}),
    ("Query", {"QueryString": SELECT, "MaxRows": 1}),
    ("CancelQuery", lambda was: {"QueryId": was["Query"]["QueryId"]}),
    ("PrepareQuery", {"QueryString": "SELECT ? AS x, @y AS y, 1 AS z", "ValidateOnly": True}),
    (
        "CreateScheduledQuery",
        {
            "Name": "conform",
            "QueryString": "SELECT now() AS time, 'x' AS device, 1.5 AS v",
            "ScheduleConfiguration": {"ScheduleExpression": "rate(1 day)"},
            "NotificationConfiguration": {
                "SnsConfiguration": {"TopicArn": "arn:aws:sns:us-east-1:123456789012:t"}
            },
            "ScheduledQueryExecutionRoleArn": ROLE,
            "ErrorReportConfiguration": {"S3Configuration": {"BucketName": "conform"}},
        },
    ),
    ("ListScheduledQueries", {}),
    ("UpdateScheduledQuery", lambda was: {**_scheduled(was), "State": "ENABLED"}),
    ("ExecuteScheduledQuery", lambda was: {**_scheduled(was), "InvocationTime": 1_714_564_800}),
    ("DescribeScheduledQuery", _scheduled),
    ("DeleteScheduledQuery", _scheduled),
]
CALLS_TIMESTREAM_END: list[Row] = [
    ("DeleteTable", T),
    ("DeleteDatabase", {"DatabaseName": "conform"}),
]

D = {"DeliveryStreamName": "conform"}
S3 = {"RoleARN": ROLE, "BucketARN": "arn:aws:s3:::conform"}
CALLS_FIREHOSE: list[Row] = [
    (
        "CreateDeliveryStream",
        {
            **D, "DeliveryStreamType": "DirectPut",
            "ExtendedS3DestinationConfiguration": {**S3, "Prefix": "p/"},
            "Tags": [{"Key": "a", "Value": "b"}],
        },
    ),
    ("DescribeDeliveryStream", D),
    ("ListDeliveryStreams", {"Limit": 1}),
    ("PutRecord", {**D, "Record": {"Data": b"x"}}),
    ("PutRecordBatch", {**D, "Records": [{"Data": b"x"}, {"Data": b"y"}]}),
    ("StartDeliveryStreamEncryption", D),
    ("DescribeDeliveryStream", D),
    ("StopDeliveryStreamEncryption", D),
    (
        "UpdateDestination",
        {
            **D, "CurrentDeliveryStreamVersionId": "1",
            "DestinationId": "destinationId-000000000001",
            "ExtendedS3DestinationUpdate": {"Prefix": "q/"},
        },
    ),
    ("TagDeliveryStream", {**D, "Tags": [{"Key": "c", "Value": "d"}]}),
    ("ListTagsForDeliveryStream", D),
    ("UntagDeliveryStream", {**D, "TagKeys": ["c"]}),
    ("DeleteDeliveryStream", D),
]  # fmt: skip

F = {"FunctionName": "conform"}
ON_FAILURE = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:conform"}}
CALLS_LAMBDA: list[Row] = [
    (
        "CreateFunction",
        {
            **F, "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler",
            "Code": {"ZipFile": _zip()}, "Tags": {"a": "b"},
            "Environment": {"Variables": {"XY": "1"}},
        },
    ),
    ("GetFunction", F),
    ("ListFunctions", {}),
    ("GetFunctionConfiguration", F),
    ("UpdateFunctionConfiguration", {**F, "Timeout": 20}),
    ("UpdateFunctionCode", {**F, "ZipFile": _zip()}),
    ("ListVersionsByFunction", F),
    ("GetFunctionCodeSigningConfig", F),
    ("GetRuntimeManagementConfig", F),
    ("GetFunctionRecursionConfig", F),
    ("PutFunctionConcurrency", {**F, "ReservedConcurrentExecutions": 5}),
    ("GetFunctionConcurrency", F),
    ("DeleteFunctionConcurrency", F),
    (
        "AddPermission",
        {
            **F, "StatementId": "one", "Action": "lambda:InvokeFunction",
            "Principal": "iot.amazonaws.com", "SourceArn": "arn:aws:iot:us-east-1:123456789012:r",
        },
    ),
    ("GetPolicy", F),
    ("RemovePermission", {**F, "StatementId": "one"}),
    ("Invoke", {**F, "Payload": b"{}", "LogType": "Tail"}),
    ("GetAccountSettings", {}),
    (
        "PutFunctionEventInvokeConfig",
        {**F, "MaximumRetryAttempts": 1, "DestinationConfig": ON_FAILURE},
    ),
    ("UpdateFunctionEventInvokeConfig", {**F, "MaximumEventAgeInSeconds": 60}),
    ("GetFunctionEventInvokeConfig", F),
    ("ListFunctionEventInvokeConfigs", F),
    ("DeleteFunctionEventInvokeConfig", F),
    (
        "CreateEventSourceMapping",
        {**F, "EventSourceArn": KINESIS + "source", "StartingPosition": "LATEST",
         "DestinationConfig": ON_FAILURE, "FunctionResponseTypes": ["ReportBatchItemFailures"]},
    ),
    ("ListEventSourceMappings", F),
    ("GetEventSourceMapping", lambda was: {"UUID": was["CreateEventSourceMapping"]["UUID"]}),
    (
        "UpdateEventSourceMapping",
        lambda was: {"UUID": was["CreateEventSourceMapping"]["UUID"], "BatchSize": 10},
    ),
    ("DeleteEventSourceMapping", lambda was: {"UUID": was["CreateEventSourceMapping"]["UUID"]}),
    ("TagResource", {"Resource": LAMBDA + "conform", "Tags": {"c": "d"}}),
    ("ListTags", {"Resource": LAMBDA + "conform"}),
    ("UntagResource", {"Resource": LAMBDA + "conform", "TagKeys": ["c"]}),
    ("DeleteFunction", F),
]  # fmt: skip

METRIC = {"Namespace": "Conform", "MetricName": "m"}
ALARMS = {"AlarmNames": ["conform"]}
CALLS_CLOUDWATCH: list[Row] = [
    (
        "PutMetricData",
        {
            "Namespace": "Conform",
            "MetricData": [
                {
                    "MetricName": "m", "Value": 1.0, "Unit": "Count",
                    "Dimensions": [{"Name": "d", "Value": "v"}],
                },
                {"MetricName": "m", "Values": [1.0, 2.0], "Counts": [1.0, 3.0]},
            ],
        },
    ),
    ("ListMetrics", {"Namespace": "Conform"}),
    (
        "GetMetricData",
        lambda _: {
            "StartTime": time.time() - 600, "EndTime": time.time() + 60,
            "MetricDataQueries": [
                {"Id": "q", "MetricStat": {"Metric": METRIC, "Period": 60, "Stat": "Sum"}},
                {"Id": "e", "Expression": "q * 2"},
            ],
        },
    ),
    (
        "GetMetricStatistics",
        lambda _: {
            **METRIC, "StartTime": time.time() - 600, "EndTime": time.time() + 60, "Period": 60,
            "Statistics": ["Sum", "Average"],
        },
    ),
    (
        "PutMetricAlarm",
        {
            **METRIC, "AlarmName": "conform", "ComparisonOperator": "GreaterThanThreshold",
            "EvaluationPeriods": 1, "Period": 60, "Statistic": "Sum", "Threshold": 1.0,
            "AlarmActions": ["arn:aws:sns:us-east-1:123456789012:t"],
            "Tags": [{"Key": "a", "Value": "b"}],
        },
    ),
    ("SetAlarmState", {"AlarmName": "conform", "StateValue": "ALARM", "StateReason": "r"}),
    ("PutCompositeAlarm", {"AlarmName": "both", "AlarmRule": 'ALARM("conform")'}),
    ("DescribeAlarms", {"AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}),
    ("DescribeAlarmsForMetric", METRIC),
    ("DescribeAlarmHistory", {"AlarmName": "conform"}),
    ("EnableAlarmActions", ALARMS),
    ("DisableAlarmActions", ALARMS),
    ("TagResource", {"ResourceARN": ALARM + "conform", "Tags": [{"Key": "c", "Value": "d"}]}),
    ("ListTagsForResource", {"ResourceARN": ALARM + "conform"}),
    ("UntagResource", {"ResourceARN": ALARM + "conform", "TagKeys": ["c"]}),
    (
        "DeleteAlarms",
        lambda was: {"AlarmNames": [*(["both"] * ("PutCompositeAlarm" in was)), "conform"]},
    ),
    ("PutDashboard", {"DashboardName": "conform", "DashboardBody": '{"widgets":[]}'}),
    ("GetDashboard", {"DashboardName": "conform"}),
    ("ListDashboards", {}),
    ("DeleteDashboards", {"DashboardNames": ["conform"]}),
]  # fmt: skip

G = {"logGroupName": "conform"}
FILTER = {**G, "filterName": "one"}
CALLS_LOGS: list[Row] = [
    (
        "PutMetricFilter",
        {
            **FILTER, "filterPattern": "ERROR",
            "metricTransformations": [
                {"metricName": "m", "metricNamespace": "Conform", "metricValue": "1"}
            ],
        },
    ),
    ("TestMetricFilter", {"filterPattern": "ERROR", "logEventMessages": ["an ERROR", "none"]}),
    (
        "PutLogEvents",
        lambda _: {
            **G, "logStreamName": "one",
            "logEvents": [{"timestamp": int(time.time() * 1000), "message": "an ERROR"}],
        },
    ),
    ("DeleteMetricFilter", FILTER),
    ("DeleteLogGroup", G),
]  # fmt: skip


def _csr() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "conform")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return asked.public_bytes(serialization.Encoding.PEM).decode()


TOPIC_RULE = {
    "ruleName": "conform",
    "topicRulePayload": {
        "sql": "SELECT * FROM 'conform/+'",
        "actions": [{"republish": {"roleArn": ROLE, "topic": "other"}}],
    },
}
TEMPLATE_BODY = json.dumps(
    {
        "Resources": {
            "certificate": {
                "Type": "AWS::IoT::Certificate",
                "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
            }
        }
    }
)
TEMPLATE = {"templateName": "conform"}


def _certificate(was: dict[str, Any]) -> str:
    return str(was["CreateKeysAndCertificate"]["certificateArn"])


def _attached(was: dict[str, Any]) -> dict[str, Any]:
    return {"policyName": "conform", "target": _certificate(was)}


def _held(was: dict[str, Any]) -> dict[str, Any]:
    return {"thingName": "conform", "principal": _certificate(was)}


def _identified(was: dict[str, Any]) -> dict[str, Any]:
    return {"certificateId": was["CreateKeysAndCertificate"]["certificateId"]}


# The policy and the group are made before.
CALLS_IOT: list[Row] = [
    ("CreateCertificateFromCsr", lambda _: {"certificateSigningRequest": _csr()}),
    ("CreateKeysAndCertificate", {"setAsActive": True}),
    ("CreateTopicRule", TOPIC_RULE),
    ("ReplaceTopicRule", TOPIC_RULE),
    ("DescribeEndpoint", {"endpointType": "iot:Data-ATS"}),
    ("SetV2LoggingOptions", {"roleArn": ROLE, "defaultLogLevel": "ERROR"}),
    ("GetV2LoggingOptions", {}),
    ("CreateThing", {"thingName": "conform", "attributePayload": {"attributes": {"a": "1"}}}),
    ("AttachPolicy", _attached),
    ("ListAttachedPolicies", lambda was: {"target": _certificate(was)}),
    ("AttachThingPrincipal", _held),
    ("ListThingPrincipals", {"thingName": "conform"}),
    ("AddThingToThingGroup", {"thingGroupName": "conform", "thingName": "conform"}),
    ("UpdateCertificate", lambda was: {**_identified(was), "newStatus": "REVOKED"}),
    ("DetachPolicy", _attached),
    ("DetachThingPrincipal", _held),
    ("DeleteCertificate", _identified),
    ("DeleteThing", {"thingName": "conform"}),
    (
        "CreateProvisioningTemplate",
        {**TEMPLATE, "templateBody": TEMPLATE_BODY, "provisioningRoleArn": ROLE},
    ),
    ("CreateProvisioningTemplateVersion", {**TEMPLATE, "templateBody": TEMPLATE_BODY}),
    ("DescribeProvisioningTemplate", TEMPLATE),
    ("DescribeProvisioningTemplateVersion", {**TEMPLATE, "versionId": 2}),
    ("ListProvisioningTemplates", {}),
    ("ListProvisioningTemplateVersions", TEMPLATE),
    ("UpdateProvisioningTemplate", {**TEMPLATE, "enabled": True}),
    ("DeleteProvisioningTemplateVersion", {**TEMPLATE, "versionId": 2}),
    ("DeleteProvisioningTemplate", TEMPLATE),
]  # fmt: skip

# By botocore's name of the service, in the order in which they are run.
CALLS: list[tuple[str, list[Row]]] = [
    ("kinesis", CALLS_KINESIS),
    ("timestream-write", CALLS_TIMESTREAM_WRITE),
    ("timestream-query", CALLS_TIMESTREAM_QUERY),
    ("timestream-write", CALLS_TIMESTREAM_END),
    ("firehose", CALLS_FIREHOSE),
    ("lambda", CALLS_LAMBDA),
    ("cloudwatch", CALLS_CLOUDWATCH),
    ("logs", CALLS_LOGS),
    ("iot", CALLS_IOT),
]

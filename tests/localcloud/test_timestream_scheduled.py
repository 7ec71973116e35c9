# ruff: noqa: S608 - names are those of the test
"""Scheduled queries: from their making to the rows, messages and reports of their runs."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import pytest_asyncio

from localcloud.http import AwsError
from localcloud.timestream.schedule import Schedule

pytestmark = pytest.mark.asyncio(loop_scope="module")

START_MS = 1_714_564_800_000  # 2024-05-01 12:00:00 UTC
MAGNETIC = {"EnableMagneticStoreWrites": True}
ROLE = "arn:aws:iam::123456789012:role/scheduled"


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("rate(1 minute)", "2024-05-01 12:00:30", "2024-05-01 12:01:00"),
        ("rate(2 hours)", "2024-05-01 12:00:00", "2024-05-01 14:00:00"),
        ("cron(0/15 * * * ? *)", "2024-05-01 12:16:00", "2024-05-01 12:30:00"),
        ("cron(30 8 ? * MON-FRI *)", "2024-05-03 09:00:00", "2024-05-06 08:30:00"),
        ("cron(0 0 1 * ? *)", "2024-12-15 00:00:00", "2025-01-01 00:00:00"),
        ("cron(0 0 29 FEB ? *)", "2024-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("cron(5,10 6 ? * SUN 2024-2026)", "2024-05-05 06:05:00", "2024-05-05 06:10:00"),
        ("cron(0 0 1 1 ? 2020)", "2024-05-05 06:05:00", None),
    ],
)
async def test_a_schedule_is_due_when_its_expression_says(expression, after, due):
    found = Schedule.parse(expression).next_after(at(after), at("2024-05-01 12:00:00"))
    assert found == (None if due is None else at(due))


@pytest.mark.parametrize(
    "expression",
    ["", "rate(1 minutes)", "rate(5 minute)", "rate(0 minutes)", "rate(5 weeks)", "cron(* * * * *)",
     "cron(0 0 1 * MON *)", "cron(0 0 ? * ? *)", "cron(60 0 ? * MON *)", "cron(0 0 L * ? *)",
     "cron(0 0 ? * MON#2 *)", "cron(5-1 0 ? * MON *)", "at(2024-05-01T00:00:00)"],
)  # fmt: skip
async def test_another_expression_is_refused(expression):
    with pytest.raises(AwsError, match="Invalid schedule expression"):
        Schedule.parse(expression)


class Plant:
    """A table with readings, one for summaries, a topic with a queue, and a bucket."""

    def __init__(self, cloud: Any, name: str) -> None:
        self.cloud, self.name = cloud, name

    async def build(self) -> Plant:
        write = await self.cloud.client("timestream-write")
        await write.create_database(DatabaseName=self.name)
        for table in ("readings", "hourly"):
            await write.create_table(
                DatabaseName=self.name, TableName=table, MagneticStoreWriteProperties=MAGNETIC
            )
        await write.write_records(
            DatabaseName=self.name,
            TableName="readings",
            Records=[
                {
                    "Dimensions": [{"Name": "device", "Value": device}], "MeasureName": "speed",
                    "MeasureValue": value, "Time": str(START_MS + minute * 60_000),
                }
                for device, minute, value in (("d1", 0, "1"), ("d1", 30, "3"), ("d2", 70, "8"))
            ],
        )  # fmt: skip
        sns, sqs = await self.cloud.client("sns"), await self.cloud.client("sqs")
        self.topic = (await sns.create_topic(Name=self.name))["TopicArn"]
        self.queue = (await sqs.create_queue(QueueName=self.name))["QueueUrl"]
        asked = await sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        await sns.subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint=asked["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )  # fmt: skip
        await (await self.cloud.client("s3")).create_bucket(Bucket=self.name)
        self.query = await self.cloud.client("timestream-query")
        return self

    @property
    def sql(self) -> str:
        return (
            "SELECT bin(time, 1h) AS hour, device, avg(measure_value::double) AS mean, count(*) AS n, "
            "'summary' AS kind, max(time) AS newest "
            f'FROM "{self.name}"."readings" WHERE time < @scheduled_runtime GROUP BY 1, 2'
        )

    def target(self, **more: Any) -> dict[str, Any]:
        return {
            "TimestreamConfiguration": {
                "DatabaseName": self.name,
                "TableName": "hourly",
                "TimeColumn": "hour",
                "DimensionMappings": [{"Name": "device", "DimensionValueType": "VARCHAR"}],
                **(more or self.multi),
            }
        }

    multi: dict[str, Any] = {  # noqa: RUF012 - read only
        "MultiMeasureMappings": {
            "TargetMultiMeasureName": "hour",
            "MultiMeasureAttributeMappings": [
                {"SourceColumn": "mean", "MeasureValueType": "DOUBLE"},
                {"SourceColumn": "n", "TargetMultiMeasureAttributeName": "count_of",
                 "MeasureValueType": "BIGINT"},
                {"SourceColumn": "newest", "MeasureValueType": "TIMESTAMP"},
            ],
        }
    }  # fmt: skip

    async def schedule(self, name: str, **more: Any) -> str:
        given = {
            "Name": name,
            "QueryString": self.sql,
            "ScheduleConfiguration": {"ScheduleExpression": "cron(0 0 1 1 ? *)"},
            "NotificationConfiguration": {"SnsConfiguration": {"TopicArn": self.topic}},
            "TargetConfiguration": self.target(),
            "ScheduledQueryExecutionRoleArn": ROLE,
            "ErrorReportConfiguration": {
                "S3Configuration": {"BucketName": self.name, "ObjectKeyPrefix": "errors"}
            },
            **more,
        }
        return str((await self.query.create_scheduled_query(**given))["Arn"])

    async def message(self) -> Any:
        """The next message of the topic, or None."""
        sqs = await self.cloud.client("sqs")
        got = (await sqs.receive_message(QueueUrl=self.queue, WaitTimeSeconds=1)).get("Messages")
        if not got:
            return None
        await sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=got[0]["ReceiptHandle"])
        return json.loads(got[0]["Body"])

    async def hourly(self) -> list[tuple[str | None, ...]]:
        sql = f'SELECT time, device, mean, count_of, newest FROM "{self.name}"."hourly" ORDER BY 1'
        rows = (await self.query.query(QueryString=sql))["Rows"]
        return [tuple(datum.get("ScalarValue") for datum in row["Data"]) for row in rows]


@pytest_asyncio.fixture(loop_scope="module")
async def plant(cloud, name):
    return await Plant(cloud, name).build()


def clock(hour: str) -> str:
    return f"2024-05-01 {hour}.000000000"


D1 = (clock("12:00:00"), "d1", "2.0", "2", clock("12:30:00"))
D2 = (clock("13:00:00"), "d2", "8.0", "1", clock("13:10:00"))


async def test_a_run_on_demand_writes_rows_and_tells_of_it(plant, eventually):
    arn = await plant.schedule("hourly")
    assert arn.startswith("arn:aws:timestream:us-east-1:123456789012:scheduled-query/hourly-")

    await plant.query.execute_scheduled_query(
        ScheduledQueryArn=arn, InvocationTime=dt.datetime(2024, 5, 1, 13, tzinfo=dt.UTC)
    )
    told = await eventually(plant.message)

    assert (told["type"], told["arn"]) == ("MANUAL_TRIGGER_SUCCESS", arn)
    run = told["scheduledQueryRunSummary"]
    assert run["invocationEpochSecond"] == at("2024-05-01 13:00:00")
    assert (run["executionStats"]["queryResultRows"], run["executionStats"]["recordsIngested"]) == (
        1,
        1,
    )
    assert await plant.hourly() == [D1]

    # Once more, later: the hour that was there is replaced, and the next one comes.
    await plant.query.execute_scheduled_query(
        ScheduledQueryArn=arn, InvocationTime=dt.datetime(2024, 5, 1, 14, tzinfo=dt.UTC)
    )
    assert (await eventually(plant.message))["type"] == "MANUAL_TRIGGER_SUCCESS"
    assert await plant.hourly() == [D1, D2]
    told = (await plant.query.describe_scheduled_query(ScheduledQueryArn=arn))["ScheduledQuery"]
    assert told["LastRunSummary"]["RunStatus"] == "MANUAL_TRIGGER_SUCCESS"
    assert told["LastRunSummary"]["ExecutionStats"]["RecordsIngested"] == 2
    assert told["PreviousInvocationTime"].timestamp() == at("2024-05-01 14:00:00")
    assert told["QueryString"] == plant.sql


async def test_it_runs_when_it_is_due(plant, cloud, eventually):
    arn = await plant.schedule(
        "due", ScheduleConfiguration={"ScheduleExpression": "rate(1 minute)"}
    )
    scheduled = cloud.service("timestream")._scheduled
    one = scheduled._found(arn)
    first_s = one.next_s
    assert first_s == one.created_s + 60
    # The minute has passed.
    one.created_s, one.next_s = one.created_s - 60, one.created_s
    scheduled._changed.set()

    told = await eventually(plant.message)

    assert told["type"] == "AUTO_TRIGGER_SUCCESS"
    assert told["nextInvocationEpochSecond"] == int(first_s)
    assert await plant.hourly() == [D1, D2]
    await plant.query.delete_scheduled_query(ScheduledQueryArn=arn)


async def test_single_measures_are_mapped_by_name(plant, eventually):
    arn = await plant.schedule(
        "mixed",
        TargetConfiguration=plant.target(
            MeasureNameColumn="kind",
            MixedMeasureMappings=[
                {"MeasureName": "summary", "SourceColumn": "mean", "TargetMeasureName": "mean_speed",
                 "MeasureValueType": "DOUBLE"},
                {"MeasureName": "other", "SourceColumn": "n", "MeasureValueType": "BIGINT"},
            ],
        ),
    )  # fmt: skip
    await plant.query.execute_scheduled_query(
        ScheduledQueryArn=arn, InvocationTime=dt.datetime(2024, 5, 1, 14, tzinfo=dt.UTC)
    )
    assert (await eventually(plant.message))["type"] == "MANUAL_TRIGGER_SUCCESS"

    sql = f'SELECT measure_name, device, measure_value::double FROM "{plant.name}"."hourly" ORDER BY 2'
    rows = (await plant.query.query(QueryString=sql))["Rows"]
    assert [[datum["ScalarValue"] for datum in row["Data"]] for row in rows] == [
        ["mean_speed", "d1", "2.0"],
        ["mean_speed", "d2", "8.0"],
    ]


async def test_a_run_that_fails_leaves_a_report(plant, cloud, eventually):
    arn = await plant.schedule("failing", TargetConfiguration=plant.target(
        MultiMeasureMappings={"TargetMultiMeasureName": "x", "MultiMeasureAttributeMappings": [
            {"SourceColumn": "mean", "MeasureValueType": "BIGINT"}]},
    ))  # fmt: skip
    await plant.query.execute_scheduled_query(
        ScheduledQueryArn=arn, InvocationTime=dt.datetime(2024, 5, 1, 14, tzinfo=dt.UTC)
    )
    told = await eventually(plant.message)

    assert told["type"] == "MANUAL_TRIGGER_FAILURE"
    reason = "Column mean is of type DOUBLE, and is mapped as BIGINT."
    assert told["scheduledQueryRunSummary"]["failureReason"] == reason
    query = (await plant.query.describe_scheduled_query(ScheduledQueryArn=arn))["ScheduledQuery"]
    [failed] = query["RecentlyFailedRuns"]
    where = failed["ErrorReportLocation"]["S3ReportLocation"]
    assert where["ObjectKey"].startswith("errors/failing-")
    s3 = await cloud.client("s3")
    got = await s3.get_object(Bucket=where["BucketName"], Key=where["ObjectKey"])
    assert json.loads(await got["Body"].read())["reason"] == reason


async def test_it_is_listed_switched_tagged_and_deleted(plant):
    arn = await plant.schedule("kept", Tags=[{"Key": "a", "Value": "1"}])

    async def listed() -> dict[str, Any]:
        found, token = {}, None
        while True:
            more = {"NextToken": token} if token else {}
            page = await plant.query.list_scheduled_queries(MaxResults=1, **more)
            found |= {one["Arn"]: one for one in page["ScheduledQueries"]}
            token = page.get("NextToken")
            if not token:
                return found

    one = (await listed())[arn]
    assert (one["Name"], one["State"]) == ("kept", "ENABLED")
    assert one["TargetDestination"]["TimestreamDestination"]["TableName"] == "hourly"
    assert one["NextInvocationTime"].month == 1
    await plant.query.update_scheduled_query(ScheduledQueryArn=arn, State="DISABLED")
    one = (await listed())[arn]
    assert one["State"] == "DISABLED"
    assert "NextInvocationTime" not in one

    await plant.query.tag_resource(ResourceARN=arn, Tags=[{"Key": "b", "Value": "2"}])
    await plant.query.untag_resource(ResourceARN=arn, TagKeys=["a"])
    tags = await plant.query.list_tags_for_resource(ResourceARN=arn)
    assert tags["Tags"] == [{"Key": "b", "Value": "2"}]

    await plant.query.delete_scheduled_query(ScheduledQueryArn=arn)
    assert arn not in await listed()
    with pytest.raises(plant.query.exceptions.ResourceNotFoundException):
        await plant.query.describe_scheduled_query(ScheduledQueryArn=arn)


async def test_what_cannot_be_scheduled_is_refused(plant):
    refused = plant.query.exceptions.ValidationException
    with pytest.raises(refused, match="Invalid schedule expression"):
        await plant.schedule("a1", ScheduleConfiguration={"ScheduleExpression": "rate(1 week)"})
    with pytest.raises(refused, match="function foo"):
        await plant.schedule("b1", QueryString="SELECT foo(1)")
    target = plant.target()
    target["TimestreamConfiguration"]["TableName"] = "nothing"
    with pytest.raises(plant.query.exceptions.ResourceNotFoundException):
        await plant.schedule("c1", TargetConfiguration=target)
    arn = await plant.schedule("once", ClientToken="t" * 32)
    assert await plant.schedule("once", ClientToken="t" * 32) == arn
    with pytest.raises(plant.query.exceptions.ConflictException):
        await plant.schedule("once", ClientToken="u" * 32)

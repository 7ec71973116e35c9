"""Scheduled queries: made, listed, switched, run on time or on demand, into a table.

A run acts as the query's execution role, and is one client among others: it asks the query API, writes
by WriteRecords, publishes to the topic and puts its report of errors into the bucket.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import ClientError

from localcloud.arn import arn
from localcloud.durable import moment
from localcloud.http import AwsError
from localcloud.timestream.mapping import records
from localcloud.timestream.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.seams import CloudContext
    from localcloud.timestream.catalog import Catalog
    from localcloud.timestream.query import QueryEngine
    from localcloud.timestream.reports import Reports

log = logging.getLogger(__name__)

Json = dict[str, Any]
RECORDS_PER_CALL = 100
FAILED_RUNS_KEPT = 5
DEFAULT_LISTED = 50
_PARAMETER = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|@scheduled_runtime\b", re.IGNORECASE)


@dataclass(eq=False)
class Scheduled:
    """One scheduled query; `given` is the request that made it."""

    arn: str
    given: Json
    schedule: Schedule
    created_s: float
    state: str = "ENABLED"
    tags: dict[str, str] = field(default_factory=dict)
    previous_s: float | None = None
    next_s: float | None = None
    last_run: Json | None = None
    failed: list[Json] = field(default_factory=list)

    @property
    def target(self) -> Json | None:
        """The TimestreamConfiguration of its target."""
        config: Json = self.given.get("TargetConfiguration") or {}
        return config.get("TimestreamConfiguration")

    def aim(self, now_s: float) -> None:
        """Sets when it is due next."""
        due = self.schedule.next_after(now_s, self.created_s)
        self.next_s = due if self.state == "ENABLED" else None

    def about(self) -> Json:
        """What lists and descriptions have in common."""
        return {
            "Arn": self.arn,
            "Name": self.given["Name"],
            "CreationTime": self.created_s,
            "State": self.state,
            "ErrorReportConfiguration": self.given["ErrorReportConfiguration"],
            **({"PreviousInvocationTime": self.previous_s} if self.previous_s else {}),
            **({"NextInvocationTime": self.next_s} if self.next_s else {}),
        }


class ScheduledQueries:
    """All scheduled queries, and the clock that runs them."""

    def __init__(
        self, context: CloudContext, catalog: Catalog, engine: QueryEngine, reports: Reports
    ) -> None:
        self._context = context
        self._catalog = catalog
        self._engine = engine
        self._reports = reports
        self._all: dict[str, Scheduled] = {}
        self._changed = asyncio.Event()
        self._clock: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()

    def operations(self) -> dict[str, Callable[[Json], Awaitable[Json]]]:
        """The operations by API name."""
        return {
            "CreateScheduledQuery": self._create,
            "DescribeScheduledQuery": self._describe,
            "ListScheduledQueries": self._list,
            "UpdateScheduledQuery": self._update,
            "ExecuteScheduledQuery": self._execute,
            "DeleteScheduledQuery": self._delete,
        }

    def start(self) -> None:
        """Starts the clock."""
        self._clock = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Ends the clock and what runs."""
        tasks = [*self._runs, *([self._clock] if self._clock else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tags(self, resource: str) -> dict[str, str]:
        """The tags of a scheduled query, to be read and changed.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        return self._found(resource).tags

    def _found(self, query_arn: str) -> Scheduled:
        if query_arn not in self._all:
            raise AwsError(
                "ResourceNotFoundException", f"The scheduled query {query_arn} does not exist."
            )
        return self._all[query_arn]

    async def _create(self, body: Json) -> Json:
        name = body["Name"]
        schedule = Schedule.parse(body["ScheduleConfiguration"]["ScheduleExpression"])
        for one in self._all.values():
            if one.given["Name"] == name:
                if one.given.get("ClientToken") == body.get("ClientToken"):
                    return {"Arn": one.arn}
                raise AwsError("ConflictException", f"The scheduled query {name} already exists.")
        config = (body.get("TargetConfiguration") or {}).get("TimestreamConfiguration")
        # When it is made again at a start, the table may be gone by now, and its columns are not back.
        if self._context.restored.is_set():
            if config:
                self._catalog.table(config["DatabaseName"], config["TableName"])
            await self._engine.prepare({"QueryString": body["QueryString"], "ValidateOnly": True})
        code = moment.random_bytes(8).hex()
        made = Scheduled(
            arn(
                "timestream", self._context.region, self._context.account_id,
                f"scheduled-query/{name}-{code}",
            ),
            body, schedule, moment.now_s(),
        )  # fmt: skip
        made.tags.update({tag["Key"]: tag["Value"] for tag in body.get("Tags") or ()})
        made.aim(time.time())
        self._all[made.arn] = made
        self._changed.set()
        return {"Arn": made.arn}

    async def _describe(self, body: Json) -> Json:
        one = self._found(body["ScheduledQueryArn"])
        copied = ("QueryString", "ScheduleConfiguration", "NotificationConfiguration",
                  "TargetConfiguration", "ScheduledQueryExecutionRoleArn", "KmsKeyId")  # fmt: skip
        return {
            "ScheduledQuery": {
                **one.about(),
                **{name: one.given[name] for name in copied if name in one.given},
                **({"LastRunSummary": one.last_run} if one.last_run else {}),
                "RecentlyFailedRuns": one.failed,
            }
        }

    async def _list(self, body: Json) -> Json:
        token = body.get("NextToken") or "0"
        if not token.isdecimal():
            raise AwsError("ValidationException", "Invalid NextToken.")
        first, limit = int(token), int(body.get("MaxResults") or DEFAULT_LISTED)
        listed = []
        for one in list(self._all.values())[first : first + limit]:
            told = one.about()
            if one.target:
                told["TargetDestination"] = {
                    "TimestreamDestination": {
                        "DatabaseName": one.target["DatabaseName"],
                        "TableName": one.target["TableName"],
                    }
                }
            if one.last_run:
                told["LastRunStatus"] = one.last_run["RunStatus"]
            listed.append(told)
        more = first + limit < len(self._all)
        return {"ScheduledQueries": listed, **({"NextToken": str(first + limit)} if more else {})}

    async def _update(self, body: Json) -> Json:
        one = self._found(body["ScheduledQueryArn"])
        one.state = body["State"]
        one.aim(time.time())
        self._changed.set()
        return {}

    async def _execute(self, body: Json) -> Json:
        one = self._found(body["ScheduledQueryArn"])
        self._begin(one, float(body["InvocationTime"]), "MANUAL_TRIGGER")
        return {}

    async def _delete(self, body: Json) -> Json:
        del self._all[self._found(body["ScheduledQueryArn"]).arn]
        self._changed.set()
        return {}

    async def _tick(self) -> None:
        await self._context.restored.wait()
        while True:
            now_s = time.time()
            for one in list(self._all.values()):
                if one.next_s is not None and one.next_s <= now_s:
                    due_s = one.next_s
                    one.aim(now_s)
                    self._begin(one, due_s, "AUTO_TRIGGER")
            due = [one.next_s for one in self._all.values() if one.next_s is not None]
            self._changed.clear()
            wait_s = max(0.0, min(due) - time.time()) if due else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)

    def _begin(self, one: Scheduled, invocation_s: float, trigger: str) -> None:
        task = asyncio.create_task(self._run(one, invocation_s, trigger))
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _run(self, one: Scheduled, invocation_s: float, trigger: str) -> None:
        """One run: never fails, but tells how it went."""
        began_s = time.time()
        stats = {"DataWrites": 0, "BytesMetered": 0, "RecordsIngested": 0, "QueryResultRows": 0}
        failure: Json | None = None
        access = self._context.access
        role = access.role(one.given["ScheduledQueryExecutionRoleArn"], one.given["Name"])
        with access.acting(role):
            try:
                rejected = await self._transfer(one, invocation_s, stats)
                if rejected:
                    failure = {"reason": "Records were rejected.", "records": rejected}
            except ClientError as error:
                failure = {"reason": str(error.response["Error"].get("Message"))}
            except AwsError as error:
                failure = {"reason": error.message}
            except Exception as error:
                log.exception("the scheduled query %s failed", one.arn)
                failure = {"reason": f"{type(error).__name__}: {error}"}
            summary: Json = {
                "InvocationTime": invocation_s,
                "TriggerTime": began_s,
                "RunStatus": f"{trigger}_{'FAILURE' if failure else 'SUCCESS'}",
                "ExecutionStats": {
                    "ExecutionTimeInMillis": round((time.time() - began_s) * 1000), **stats,
                },
            }  # fmt: skip
            if failure:
                summary["FailureReason"] = failure["reason"]
                await self._report(one, summary, failure)
            one.previous_s, one.last_run = invocation_s, summary
            if failure:
                one.failed = [summary, *one.failed][:FAILED_RUNS_KEPT]
            await self._tell(one, summary)

    async def _transfer(self, one: Scheduled, invocation_s: float, stats: Json) -> list[Json]:
        """Runs the query and writes its rows; returns the rejected records."""
        at = f"from_nanoseconds({round(invocation_s * 1_000_000_000)})"
        sql = _PARAMETER.sub(lambda found: found[1] or at, one.given["QueryString"])
        query = await self._context.client("timestream-query")
        write = await self._context.client("timestream-write")
        rejected: list[Json] = []
        token: str | None = None
        while True:
            answer = await query.query(QueryString=sql, **({"NextToken": token} if token else {}))
            stats["QueryResultRows"] += len(answer["Rows"])
            if one.target and answer["Rows"]:
                made = records(one.target, answer["ColumnInfo"], answer["Rows"])
                for first in range(0, len(made), RECORDS_PER_CALL):
                    part = made[first : first + RECORDS_PER_CALL]
                    rejected += await self._write(one.target, write, part, stats)
            token = answer.get("NextToken")
            if not token:
                return rejected

    @staticmethod
    async def _write(target: Json, write: Any, part: list[Json], stats: Json) -> list[Json]:
        # A run that is made again writes the same rows, which take the place of the earlier ones.
        version = time.time_ns() // 1_000_000
        stats["DataWrites"] += len(orjson.dumps(part))
        try:
            await write.write_records(
                DatabaseName=target["DatabaseName"], TableName=target["TableName"], Records=part,
                CommonAttributes={"Version": version},
            )  # fmt: skip
        except write.exceptions.RejectedRecordsException as error:
            told = error.response["RejectedRecords"]
            stats["RecordsIngested"] += len(part) - len(told)
            return [{**one, "Record": part[one["RecordIndex"]]} for one in told]
        stats["RecordsIngested"] += len(part)
        return []

    async def _report(self, one: Scheduled, summary: Json, failure: Json) -> None:
        location = one.given["ErrorReportConfiguration"]["S3Configuration"]
        when = dt.datetime.fromtimestamp(summary["InvocationTime"], dt.UTC)
        name = one.arn.rpartition("/")[2]
        key = f"{name}/{when:%Y/%m/%d/%H%M%S}-{summary['TriggerTime']:.6f}.json"
        try:
            whole = await self._reports.put(
                location, key, {"reportId": name, "scheduledQueryArn": one.arn, **failure}
            )
        except ClientError as error:
            log.warning("no report of errors of %s: %s", one.arn, error)
            return
        summary["ErrorReportLocation"] = {
            "S3ReportLocation": {"BucketName": location["BucketName"], "ObjectKey": whole}
        }

    async def _tell(self, one: Scheduled, summary: Json) -> None:
        stats = {name[0].lower() + name[1:]: n for name, n in summary["ExecutionStats"].items()}
        message = {
            "type": summary["RunStatus"],
            "arn": one.arn,
            **({"nextInvocationEpochSecond": int(one.next_s)} if one.next_s else {}),
            "scheduledQueryRunSummary": {
                "invocationEpochSecond": int(summary["InvocationTime"]),
                "triggerTimeMillis": round(summary["TriggerTime"] * 1000),
                "runStatus": summary["RunStatus"],
                "executionStats": stats,
                **({"failureReason": summary["FailureReason"]} if "FailureReason" in summary else {}),
            },
        }  # fmt: skip
        topic = one.given["NotificationConfiguration"]["SnsConfiguration"]["TopicArn"]
        attributes = {
            name: {"DataType": "String", "StringValue": value}
            for name, value in (("queryArn", one.arn), ("notificationType", summary["RunStatus"]))
        }
        try:
            client = await self._context.client("sns")
            await client.publish(
                TopicArn=topic, Message=orjson.dumps(message).decode(), MessageAttributes=attributes
            )
        except ClientError as error:
            log.warning("the run of %s was not told to %s: %s", one.arn, topic, error)

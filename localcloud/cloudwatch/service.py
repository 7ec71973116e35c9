"""The CloudWatch API over query, JSON and CBOR."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
from typing import TYPE_CHECKING, Any

from localcloud.arn import arn
from localcloud.cloudwatch.alarms import Alarm, AlarmClock, validate
from localcloud.cloudwatch.metrics import dimensions_key
from localcloud.cloudwatch.query import dimensions_of, run_queries, statistic_series
from localcloud.cloudwatch.queues import QueueMetrics
from localcloud.http import AwsError, Request, Response
from localcloud.protocol import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.cloudwatch.metrics import MetricStore
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

MAX_DATUMS = 1000
MAX_VALUES = 150
MAX_DIMENSIONS = 30
LIST_PAGE = 500


class CloudWatchService:
    """Metrics, alarms and dashboards.

    Composite alarms, anomaly detection, metric streams and insight rules are refused by name.
    """

    signing_names = ("monitoring",)

    def __init__(self, context: CloudContext, store: MetricStore) -> None:
        self._context = context
        self._store = store
        self.clock = AlarmClock(context, store)
        self._queues = QueueMetrics(context)
        self._dashboards: dict[str, tuple[str, dt.datetime]] = {}
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "PutMetricData": self._put_metric_data,
            "GetMetricData": self._get_metric_data,
            "GetMetricStatistics": self._get_metric_statistics,
            "ListMetrics": self._list_metrics,
            "PutMetricAlarm": self._put_metric_alarm,
            "DescribeAlarms": self._describe_alarms,
            "DescribeAlarmsForMetric": self._describe_alarms_for_metric,
            "DescribeAlarmHistory": self._describe_alarm_history,
            "DeleteAlarms": self._delete_alarms,
            "SetAlarmState": self._set_alarm_state,
            "EnableAlarmActions": lambda body: self._switch_actions(body, on=True),
            "DisableAlarmActions": lambda body: self._switch_actions(body, on=False),
            "PutDashboard": self._put_dashboard,
            "GetDashboard": self._get_dashboard,
            "ListDashboards": self._list_dashboards,
            "DeleteDashboards": self._delete_dashboards,
            "TagResource": self._tag_resource,
            "UntagResource": self._untag_resource,
            "ListTagsForResource": self._list_tags,
        }

    async def start(self) -> None:
        """Starts the evaluation of alarms and the metrics of queues."""
        await self.clock.start()
        self._poll = asyncio.create_task(self._queues.run())

    async def stop(self) -> None:
        """Stops both."""
        self._poll.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._poll
        await self.clock.stop()

    def status(self) -> dict[str, Any]:
        """Counts, and the alarms by state."""
        states: dict[str, int] = {}
        for alarm in self.clock.alarms.values():
            states[alarm.state] = states.get(alarm.state, 0) + 1
        return {
            "series": len(self._store.series),
            "alarms": states,
            "dashboards": len(self._dashboards),
            "unsupported": ["composite alarms", "anomaly detection", "metric streams"],
        }

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        api = protocol("cloudwatch")
        wire, operation, body = api.decode(request)
        answer = self._operations.get(operation)
        if answer is None:
            raise AwsError("UnsupportedOperation", f"CloudWatch {operation} is not served locally")
        try:
            return api.encode(wire, operation, answer(body))
        except KeyError as error:
            raise AwsError(
                "MissingParameter", f"The parameter {error.args[0]} is required."
            ) from error

    # Metrics

    def _put_metric_data(self, body: dict[str, Any]) -> dict[str, Any]:
        namespace = body["Namespace"]
        if namespace.startswith("AWS/"):
            raise AwsError(
                "InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid."
            )
        datums = body.get("MetricData") or []
        if len(datums) > MAX_DATUMS:
            raise AwsError("InvalidParameterValue", f"at most {MAX_DATUMS} metrics in a call")
        for datum in datums:
            self._put_datum(namespace, datum)
        return {}

    def _put_datum(self, namespace: str, datum: dict[str, Any]) -> None:
        dimensions = dimensions_of(datum.get("Dimensions"))
        if len(dimensions) > MAX_DIMENSIONS:
            raise AwsError("InvalidParameterValue", f"at most {MAX_DIMENSIONS} dimensions")
        moment = datum.get("Timestamp")
        bucket = self._store.bucket(
            namespace,
            datum["MetricName"],
            dimensions,
            datum.get("Unit") or "None",
            moment.timestamp() if moment else None,
        )
        values = datum.get("Values")
        if values is not None:
            counts = datum.get("Counts") or [1.0] * len(values)
            if len(values) > MAX_VALUES or len(counts) != len(values):
                raise AwsError(
                    "InvalidParameterValue", f"Values: at most {MAX_VALUES}, as many as Counts"
                )
            for value, count in zip(values, counts, strict=True):
                bucket.add(float(value), float(count))
        elif datum.get("StatisticValues"):
            stats = datum["StatisticValues"]
            bucket.add_set(stats["Sum"], stats["SampleCount"], stats["Minimum"], stats["Maximum"])
        elif datum.get("Value") is not None:
            bucket.add(float(datum["Value"]))
        else:
            raise AwsError("MissingParameter", f"{datum['MetricName']} has no value")

    def _get_metric_data(self, body: dict[str, Any]) -> dict[str, Any]:
        queries = body["MetricDataQueries"]
        start, end = _seconds(body["StartTime"]), _seconds(body["EndTime"])
        newest_first = body.get("ScanBy") != "TimestampAscending"
        results = run_queries(self._store, queries, start, end)
        answer = []
        for query in queries:
            if not query.get("ReturnData", True):
                continue
            series = results[query["Id"]]
            times = sorted(series, reverse=newest_first)
            metric = query.get("MetricStat", {}).get("Metric", {}).get("MetricName", query["Id"])
            answer.append(
                {
                    "Id": query["Id"],
                    "Label": query.get("Label") or metric,
                    "Timestamps": [dt.datetime.fromtimestamp(at, dt.UTC) for at in times],
                    "Values": [series[at] for at in times],
                    "StatusCode": "Complete",
                }
            )
        return {"MetricDataResults": answer, "Messages": []}

    def _get_metric_statistics(self, body: dict[str, Any]) -> dict[str, Any]:
        start, end = _seconds(body["StartTime"]), _seconds(body["EndTime"])
        period = int(body["Period"])
        names = [*(body.get("Statistics") or ()), *(body.get("ExtendedStatistics") or ())]
        if not names:
            raise AwsError("InvalidParameterCombination", "Statistics is required.")
        points: dict[int, dict[str, Any]] = {}
        key = (
            body["Namespace"],
            body["MetricName"],
            dimensions_key(dimensions_of(body.get("Dimensions"))),
        )
        unit = self._store.series[key].unit if key in self._store.series else "None"
        for name in names:
            for at, value in statistic_series(self._store, body, name, start, end, period).items():
                point = points.setdefault(
                    at, {"Timestamp": dt.datetime.fromtimestamp(at, dt.UTC), "Unit": unit}
                )
                if name.startswith("p"):
                    point.setdefault("ExtendedStatistics", {})[name] = value
                else:
                    point[name] = value
        return {"Label": body["MetricName"], "Datapoints": list(points.values())}

    def _list_metrics(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = [(f["Name"], f.get("Value")) for f in body.get("Dimensions") or ()]
        found = []
        for namespace, name, dimensions in sorted(self._store.series):
            has = dict(dimensions)
            if (
                body.get("Namespace") in (None, namespace)
                and body.get("MetricName") in (None, name)
                and all(key in has and value in (None, has[key]) for key, value in wanted)
            ):
                found.append(
                    {
                        "Namespace": namespace,
                        "MetricName": name,
                        "Dimensions": [{"Name": k, "Value": v} for k, v in dimensions],
                    }
                )
        first = _token(body.get("NextToken"))
        answer: dict[str, Any] = {"Metrics": found[first : first + LIST_PAGE]}
        if len(found) > first + LIST_PAGE:
            answer["NextToken"] = str(first + LIST_PAGE)
        return answer

    # Alarms

    def _put_metric_alarm(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = {tag["Key"]: tag["Value"] for tag in body.pop("Tags", None) or ()}
        settings = {name: value for name, value in body.items() if value not in (None, "", [])}
        validate(settings)
        name = settings["AlarmName"]
        alarm = self.clock.alarms.get(name)
        if alarm is None:
            resource = f"alarm:{name}"
            alarm = Alarm(
                name,
                arn("cloudwatch", self._context.region, self._context.account_id, resource),
                settings,
                tags=tags,
            )
            self.clock.alarms[name] = alarm
            self.clock.record(alarm, "ConfigurationUpdate", f'Alarm "{name}" created', {})
        else:
            alarm.settings = settings
            alarm.configured = dt.datetime.now(dt.UTC)
            self.clock.record(alarm, "ConfigurationUpdate", f'Alarm "{name}" updated', {})
        return {}

    def _describe_alarms(self, body: dict[str, Any]) -> dict[str, Any]:
        names = body.get("AlarmNames")
        prefix = body.get("AlarmNamePrefix") or ""
        action = body.get("ActionPrefix")
        found = [
            alarm.describe()
            for name, alarm in sorted(self.clock.alarms.items())
            if (not names or name in names)
            and name.startswith(prefix)
            and body.get("StateValue") in (None, alarm.state)
            and (not action or _has_action(alarm, action))
        ]
        if body.get("AlarmTypes") and "MetricAlarm" not in body["AlarmTypes"]:
            found = []
        first, limit = _token(body.get("NextToken")), int(body.get("MaxRecords") or 50)
        if names:
            limit = max(limit, len(names))
        answer: dict[str, Any] = {
            "MetricAlarms": found[first : first + limit],
            "CompositeAlarms": [],
        }
        if len(found) > first + limit:
            answer["NextToken"] = str(first + limit)
        return answer

    def _describe_alarms_for_metric(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = dimensions_of(body.get("Dimensions"))
        return {
            "MetricAlarms": [
                alarm.describe()
                for alarm in self.clock.alarms.values()
                if alarm.settings.get("MetricName") == body["MetricName"]
                and alarm.settings.get("Namespace") == body["Namespace"]
                and dimensions_of(alarm.settings.get("Dimensions")) == wanted
            ]
        }

    def _describe_alarm_history(self, body: dict[str, Any]) -> dict[str, Any]:
        since, until = body.get("StartDate"), body.get("EndDate")
        found = [
            item
            for item in self.clock.history
            if body.get("AlarmName") in (None, item["AlarmName"])
            and body.get("HistoryItemType") in (None, item["HistoryItemType"])
            and (since is None or item["Timestamp"] >= since)
            and (until is None or item["Timestamp"] <= until)
        ]
        if body.get("ScanBy") == "TimestampAscending":
            found.reverse()
        first, limit = _token(body.get("NextToken")), int(body.get("MaxRecords") or 100)
        answer: dict[str, Any] = {"AlarmHistoryItems": found[first : first + limit]}
        if len(found) > first + limit:
            answer["NextToken"] = str(first + limit)
        return answer

    def _delete_alarms(self, body: dict[str, Any]) -> dict[str, Any]:
        for name in body["AlarmNames"]:
            self._alarm(name)
        for name in body["AlarmNames"]:
            del self.clock.alarms[name]
        return {}

    def _set_alarm_state(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["StateValue"] not in {"OK", "ALARM", "INSUFFICIENT_DATA"}:
            raise AwsError("ValidationError", f"StateValue {body['StateValue']!r} is unknown")
        data = body.get("StateReasonData") or ""
        if data:
            try:
                json.loads(data)
            except ValueError as error:
                raise AwsError("InvalidFormat", "StateReasonData is not JSON") from error
        self.clock.set_state(
            self._alarm(body["AlarmName"]), body["StateValue"], body["StateReason"], data
        )
        return {}

    def _switch_actions(self, body: dict[str, Any], *, on: bool) -> dict[str, Any]:
        for name in body["AlarmNames"]:
            if name in self.clock.alarms:
                self.clock.alarms[name].settings["ActionsEnabled"] = on
        return {}

    def _alarm(self, name: str) -> Alarm:
        alarm = self.clock.alarms.get(name)
        if alarm is None:
            raise AwsError("ResourceNotFound", f"Alarm {name} does not exist", 404)
        return alarm

    # Dashboards

    def _put_dashboard(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            parsed = json.loads(body["DashboardBody"])
        except ValueError as error:
            raise AwsError(
                "InvalidParameterInput", f"DashboardBody is not JSON: {error}"
            ) from error
        if not isinstance(parsed, dict) or not isinstance(parsed.get("widgets"), list):
            raise AwsError("InvalidParameterInput", "DashboardBody has no list of widgets")
        now = dt.datetime.now(dt.UTC)
        self._dashboards[body["DashboardName"]] = (body["DashboardBody"], now)
        return {"DashboardValidationMessages": []}

    def _get_dashboard(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["DashboardName"]
        if name not in self._dashboards:
            raise AwsError("ResourceNotFound", f"Dashboard {name} does not exist", 404)
        return {
            "DashboardArn": self._dashboard_arn(name),
            "DashboardBody": self._dashboards[name][0],
            "DashboardName": name,
        }

    def _list_dashboards(self, body: dict[str, Any]) -> dict[str, Any]:
        prefix = body.get("DashboardNamePrefix") or ""
        return {
            "DashboardEntries": [
                {
                    "DashboardName": name,
                    "DashboardArn": self._dashboard_arn(name),
                    "LastModified": changed,
                    "Size": len(text),
                }
                for name, (text, changed) in sorted(self._dashboards.items())
                if name.startswith(prefix)
            ]
        }

    def _delete_dashboards(self, body: dict[str, Any]) -> dict[str, Any]:
        for name in body["DashboardNames"]:
            if name not in self._dashboards:
                raise AwsError("ResourceNotFound", f"Dashboard {name} does not exist", 404)
        for name in body["DashboardNames"]:
            del self._dashboards[name]
        return {}

    def _dashboard_arn(self, name: str) -> str:
        return f"arn:aws:cloudwatch::{self._context.account_id}:dashboard/{name}"

    # Tags

    def _tag_resource(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = {tag["Key"]: tag["Value"] for tag in body["Tags"]}
        self._by_arn(body["ResourceARN"]).tags.update(tags)
        return {}

    def _untag_resource(self, body: dict[str, Any]) -> dict[str, Any]:
        alarm = self._by_arn(body["ResourceARN"])
        for key in body["TagKeys"]:
            alarm.tags.pop(key, None)
        return {}

    def _list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = self._by_arn(body["ResourceARN"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}

    def _by_arn(self, resource: str) -> Alarm:
        return self._alarm(resource.rpartition(":alarm:")[2])


def _seconds(moment: dt.datetime) -> int:
    return int(moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=dt.UTC).timestamp())


def _token(text: str | None) -> int:
    if not text:
        return 0
    if not text.isdigit():
        raise AwsError("InvalidNextToken", f"NextToken {text!r} is not one of ours")
    return int(text)


def _has_action(alarm: Alarm, prefix: str) -> bool:
    actions = [
        action
        for kind in ("OKActions", "AlarmActions", "InsufficientDataActions")
        for action in alarm.settings.get(kind) or ()
    ]
    return any(action.startswith(prefix) for action in actions)

"""CloudWatch Logs: moto keeps groups, streams and events; metrics are made of what comes in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.http import AwsError, Request, Response, json_response
from localcloud.logs.emf import MalformedEmfError, extract, looks_like_emf
from localcloud.logs.metric_filters import MetricFilter, MetricFilters
from localcloud.logs.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.front import Fallback
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

TICK_S = 1.0
MAX_TESTED = 50
_TARGET = "Logs_20140328."
_OK = 300


class LogsService:
    """Answers what metrics depend on, with moto's help; moto answers all else. Also the `LogSink`.

    Args:
        context: The cloud.
        moto: Who keeps the logs.
    """

    signing_names = ("logs",)

    def __init__(self, context: CloudContext, moto: Fallback) -> None:
        self._context = context
        self._moto = moto
        self._filters = MetricFilters(context.metrics)
        self._task: asyncio.Task[None] | None = None
        self._known: set[tuple[str, str]] = set()
        self._emf_samples = 0
        self._emf_malformed = 0
        # After moto took a request: what follows from it.
        self._after: dict[str, Callable[[dict[str, Any]], None]] = {
            "PutLogEvents": self._events_put,
            "PutMetricFilter": self._filter_put,
            "DeleteMetricFilter": lambda b: self._filters.remove(
                b["logGroupName"], b["filterName"]
            ),
            "DeleteLogGroup": lambda b: self._group_deleted(b["logGroupName"]),
        }

    async def restore(self) -> None:
        """Nothing: the events of log groups begin anew."""

    async def start(self) -> None:
        """Starts the end of minutes, for default values."""
        self._task = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Stops it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def status(self) -> dict[str, Any]:
        """Counts, and what is unsupported."""
        return {
            "metric_filters": self._filters.count(),
            "emf_samples": self._emf_samples,
            "emf_malformed": self._emf_malformed,
            "unsupported": ["subscription filters deliver nothing", "Logs Insights", "Live Tail"],
        }

    def operations(self) -> frozenset[str]:
        """See `Service`; moto answers the others."""
        return frozenset({*self._after, "TestMetricFilter"})

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        if request.operation == "TestMetricFilter":
            return self._test(request.json())
        if request.operation in {"CreateLogGroup", "AssociateKmsKey"}:
            self._check_key(request.json())
        after = self._after.get(request.operation)
        if after is None:
            return None
        body = request.json()
        if request.operation == "PutMetricFilter":
            # Refuses what cannot be evaluated before anything is kept.
            _checked(body)
        response = await self._moto.handle(request)
        if response.status < _OK:
            after(body)
        return response

    def _check_key(self, body: dict[str, Any]) -> None:
        """Refuses a key that CloudWatch Logs may not use for the group."""
        group, key = body.get("logGroupName"), body.get("kmsKeyId")
        if group and key and self._context.access.log_key_refusal(group, key) is not None:
            arn = (
                f"arn:aws:logs:{self._context.region}:{self._context.account_id}:log-group:{group}"
            )
            raise AwsError(
                "InvalidParameterException",
                "The specified KMS key does not exist or is not allowed to be used with Arn "
                f"'{arn}'",
            )

    async def write(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """See `LogSink`."""
        names = {"logGroupName": group, "logStreamName": stream}
        if (group, stream) not in self._known:
            # Both may be there: that answers with an error, which says as much.
            await self._ask("CreateLogGroup", {"logGroupName": group})
            await self._ask("CreateLogStream", names)
            self._known.add((group, stream))
        told = [{"timestamp": at_ms, "message": message} for at_ms, message in events]
        response = await self._ask("PutLogEvents", {**names, "logEvents": told})
        if response.status >= _OK:
            self._known.discard((group, stream))
            raise AwsError("ResourceNotFoundException", response.body.decode("utf-8", "replace"))
        self._filters.take(group, events)

    async def _ask(self, operation: str, body: dict[str, Any]) -> Response:
        region = self._context.region
        headers = {
            "host": f"logs.{region}.amazonaws.com",
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": _TARGET + operation,
            "authorization": f"AWS4-HMAC-SHA256 Credential=local/20200101/{region}/logs/"
            "aws4_request, SignedHeaders=host, Signature=none",
        }
        return await self._moto.handle(
            Request("POST", "/", "", headers, orjson.dumps(body), "logs", operation, region)
        )

    def _events_put(self, body: dict[str, Any]) -> None:
        group = body["logGroupName"]
        events = [(int(e["timestamp"]), str(e["message"])) for e in body["logEvents"]]
        for _, message in events:
            if looks_like_emf(message):
                try:
                    self._emf_samples += extract(message, self._context.metrics)
                except MalformedEmfError as error:
                    self._emf_malformed += 1
                    error.count(group, self._context.metrics)
        self._filters.take(group, events)

    def _filter_put(self, body: dict[str, Any]) -> None:
        self._filters.put(body["logGroupName"], _checked(body))

    def _group_deleted(self, group: str) -> None:
        self._filters.remove(group)
        self._known = {known for known in self._known if known[0] != group}

    def _test(self, body: dict[str, Any]) -> Response:
        messages = body.get("logEventMessages") or []
        if not 1 <= len(messages) <= MAX_TESTED:
            raise AwsError(
                "InvalidParameterException", f"logEventMessages must have 1 to {MAX_TESTED} members"
            )
        pattern = compile_pattern(body.get("filterPattern", ""))
        matches = []
        for index, message in enumerate(messages):
            found = pattern.find(message)
            if found is not None:
                extracted = found if isinstance(found, dict) else {}
                matches.append(
                    {
                        "eventNumber": index + 1,
                        "eventMessage": message,
                        "extractedValues": extracted,
                    }
                )
        return json_response({"matches": matches})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._filters.end_minutes()


def _checked(body: dict[str, Any]) -> MetricFilter:
    try:
        return MetricFilter.of(body)
    except KeyError as error:
        raise AwsError("InvalidParameterException", f"{error.args[0]} is required") from error
    except (TypeError, ValueError) as error:
        raise AwsError(
            "InvalidParameterException", "metricTransformations must have one member"
        ) from error

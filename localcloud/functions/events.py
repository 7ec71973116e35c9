"""Asynchronous invocations: a queue in front of a function, its retries, and what comes after.

Follows "How Lambda handles errors and retries with asynchronous invocation" and "Capturing records
of Lambda asynchronous invocations" of the Lambda developer guide.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.functions.destinations import Destinations, check_destination, iso
from localcloud.functions.function import ThrottledError
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.functions.function import Function
    from localcloud.functions.runtime import Result
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 1024 * 1024
# Waits before the second and the third attempt after errors of the function.
RETRY_S = (60.0, 120.0)
THROTTLE_S = (1.0, 300.0)
DEFAULT_RETRIES = 2
DEFAULT_AGE_S = 21_600
MAX_QUEUED_BYTES = 256 * 1024 * 1024
SEND_ATTEMPTS = 3
SUCCESS_KINDS = frozenset({"sqs", "sns", "lambda", "events"})
FAILURE_KINDS = SUCCESS_KINDS | {"s3"}


@dataclass(slots=True)
class Event:
    """One event in the queue."""

    function: Function
    body: bytes
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    received_s: float = field(default_factory=time.time)
    attempts: int = 0

    @property
    def age_s(self) -> float:
        """Since it was received."""
        return time.time() - self.received_s


def check_config(body: dict[str, Any]) -> dict[str, Any]:
    """The settings of a function's asynchronous invocation that a request gives.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    settings = {}
    for name, low, high in (
        ("MaximumRetryAttempts", 0, DEFAULT_RETRIES),
        ("MaximumEventAgeInSeconds", 60, DEFAULT_AGE_S),
    ):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or not low <= value <= high:
            raise AwsError("InvalidParameterValueException", f"{name} must be from {low} to {high}")
        settings[name] = value
    if body.get("DestinationConfig") is not None:
        config = body["DestinationConfig"]
        for outcome, kinds in (("OnSuccess", SUCCESS_KINDS), ("OnFailure", FAILURE_KINDS)):
            target = (config.get(outcome) or {}).get("Destination")
            if target:
                check_destination(target, kinds, f"{outcome} of a function")
        settings["DestinationConfig"] = config
    return settings


class EventQueue:
    """Runs events until a function took them or may not try again.

    Args:
        context: The cloud.
    """

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._destinations = Destinations(context)
        self._tasks: set[asyncio.Task[None]] = set()
        self._bytes = 0

    @property
    def waiting(self) -> int:
        """How many events are not finished."""
        return len(self._tasks)

    def put(self, event: Event) -> None:
        """Takes an event.

        Raises:
            AwsError: it is too large, or no more can be kept.
        """
        if len(event.body) > MAX_EVENT_BYTES:
            raise AwsError(
                "RequestTooLargeException",
                f"Request must be smaller than {MAX_EVENT_BYTES} bytes for the InvokeFunction "
                "operation",
                413,
            )
        if self._bytes + len(event.body) > MAX_QUEUED_BYTES:
            raise AwsError(
                "ServiceException", "the local cloud's queue of asynchronous events is full", 500
            )
        self._bytes += len(event.body)
        self._count(event, "AsyncEventsReceived")
        task = asyncio.create_task(self._run(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Forgets what is queued."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, event: Event) -> None:
        try:
            condition, result = await self._try(event)
            if condition is not None:
                await self._finish(event, condition, result)
        except Exception:
            # Ours, not the function's: it is over, and must not be missing from the count.
            log.exception("asynchronous event %s of %s", event.request_id, event.function.name)
            self._count(event, "AsyncEventsDropped")
        finally:
            self._bytes -= len(event.body)

    async def _try(self, event: Event) -> tuple[str | None, Result | None]:
        """(why it is over, the last result); None where the function is gone."""
        function = event.function
        throttles = 0
        result = None
        while not function.closed:
            config = function.event_config
            left_s = config.get("MaximumEventAgeInSeconds", DEFAULT_AGE_S) - event.age_s
            if left_s <= 0:
                return "EventAgeExceeded", result
            if function.reserved == 0:
                return "ZeroReservedConcurrency", result
            try:
                result = await function.invoke(event.body, event.request_id)
            except ThrottledError:
                low, high = THROTTLE_S
                await asyncio.sleep(min(high, low * 2.0**throttles, max(0.0, left_s)))
                throttles = min(throttles + 1, 20)
                continue
            event.attempts += 1
            self._context.metrics.put(
                "AWS/Lambda",
                "AsyncEventAge",
                event.age_s * 1000,
                unit="Milliseconds",
                dimensions={"FunctionName": function.name},
            )
            if result.error is None:
                return "Success", result
            if event.attempts > config.get("MaximumRetryAttempts", DEFAULT_RETRIES):
                return "RetriesExhausted", result
            await asyncio.sleep(min(RETRY_S[event.attempts - 1], max(0.0, left_s)))
        self._count(event, "AsyncEventsDropped")
        return None, None

    async def _finish(self, event: Event, condition: str, result: Result | None) -> None:
        function = event.function
        outcome = "OnSuccess" if condition == "Success" else "OnFailure"
        config = function.event_config.get("DestinationConfig") or {}
        target = (config.get(outcome) or {}).get("Destination")
        if condition != "Success":
            self._count(event, "AsyncEventsDropped")
            dead = (function.settings.get("DeadLetterConfig") or {}).get("TargetArn")
            if dead:
                await self._bury(event, dead, result)
        if target:
            await self._tell(event, target, _document(event, condition, result))

    async def _tell(self, event: Event, target: str, document: dict[str, Any]) -> None:
        for attempt in range(SEND_ATTEMPTS):
            try:
                with self._context.access.acting(event.function.acting):
                    await self._destinations.send(
                        target, document, folder=f"async/{event.function.name}"
                    )
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                log.warning("destination %s of %s: %s", target, event.function.name, error)
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                return
        self._count(event, "DestinationDeliveryFailures")

    async def _bury(self, event: Event, target: str, result: Result | None) -> None:
        message = "the event was not run" if result is None else _message(result)
        code = "200" if result is not None else "429"
        try:
            with self._context.access.acting(event.function.acting):
                await self._destinations.message(
                    target,
                    event.body.decode(),
                    {
                        "RequestID": ("String", event.request_id),
                        "ErrorCode": ("Number", code),
                        "ErrorMessage": ("String", message[:1024] or "none"),
                    },
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            log.warning("dead-letter queue %s of %s: %s", target, event.function.name, error)
            self._count(event, "DeadLetterErrors")

    def _count(self, event: Event, metric: str) -> None:
        self._context.metrics.put(
            "AWS/Lambda",
            metric,
            1,
            unit="Count",
            dimensions={"FunctionName": event.function.name},
        )


def _document(event: Event, condition: str, result: Result | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": iso(time.time()),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": f"{event.function.arn}:$LATEST",
            "condition": condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": orjson.loads(event.body),
    }
    if result is not None:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
        if result.error:
            context["functionError"] = result.error
        document["responseContext"] = context
        document["responsePayload"] = _parsed(result.payload)
    return document


def _parsed(payload: bytes) -> Any:
    try:
        return orjson.loads(payload or b"null")
    except orjson.JSONDecodeError:
        return payload.decode("utf-8", "replace")


def _message(result: Result) -> str:
    answer = _parsed(result.payload)
    return str(answer.get("errorMessage", "")) if isinstance(answer, dict) else str(answer)

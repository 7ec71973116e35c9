"""The metrics of SNS, whose topics moto keeps: counted where a publish comes in and goes out.

Names and dimensions: "Monitoring Amazon SNS topics using CloudWatch". Deliveries are counted by
standing around moto's one method that delivers to a subscription. An endpoint that is not there fails its delivery, not the publish, as on AWS.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from localcloud.http import Request, Response
    from localcloud.seams import MetricSink

log = logging.getLogger(__name__)

NAMESPACE = "AWS/SNS"
Delivery = tuple[str, str]
# Why a topic may not deliver to an endpoint, by their ARNs; None where it may.
Guard = Callable[[str, str], "str | None"]
# moto delivers in threads, and the store is the event loop's: what was delivered waits here.
_deliveries: deque[Delivery] = deque(maxlen=100_000)
# moto's subscriptions are the process's, and so is who guards them.
_guards: list[Guard] = []


def guard_deliveries(guard: Guard | None) -> None:
    """Lets `guard` decide from now on which deliveries to queues are made; None lets all."""
    _guards[:] = [guard] if guard is not None else []


class Fallback(Protocol):
    """Who answers SNS."""

    async def handle(self, request: Request) -> Response:
        """Answers a request."""


class TopicMetrics:
    """Stands before who answers SNS, and publishes AWS/SNS metrics of what passes.

    Args:
        inner: Who answers.
        metrics: Where they are published.
    """

    def __init__(self, inner: Fallback, metrics: MetricSink) -> None:
        self._inner = inner
        self._metrics = metrics
        _watch_deliveries()

    async def handle(self, request: Request) -> Response:
        """Answers a request."""
        response = await self._inner.handle(request)
        if request.service == "sns":
            if response.status < 300:  # noqa: PLR2004 - HTTP's classes
                self._count_published(request)
            while _deliveries:
                topic, metric = _deliveries.popleft()
                self._put(topic, metric, 1)
        return response

    def _count_published(self, request: Request) -> None:
        body = {
            key: values[0]
            for key, values in parse_qs(request.body.decode("utf-8", "replace")).items()
        }
        topic = body.get("TopicArn", body.get("TargetArn", "")).rpartition(":")[2]
        match body.get("Action"):
            case "Publish":
                messages = [body.get("Message", "")]
            case "PublishBatch":
                messages = [text for key, text in body.items() if key.endswith(".Message")]
            case _:
                return
        self._put(topic, "NumberOfMessagesPublished", len(messages))
        for message in messages:
            self._put(topic, "PublishSize", len(message.encode()), "Bytes")

    def _put(self, topic: str, metric: str, value: float, unit: str = "Count") -> None:
        self._metrics.put(NAMESPACE, metric, value, unit=unit, dimensions={"TopicName": topic})


def _require(topic_arn: str, queue_arn: str) -> None:
    for guard in _guards:
        refusal = guard(topic_arn, queue_arn)
        if refusal is not None:
            raise PermissionError(refusal)


@functools.cache
def _watch_deliveries() -> None:
    """Makes moto's subscriptions tell of what they deliver."""
    from moto.sns.models import Subscription  # noqa: PLC0415 - slow

    deliver = Subscription.publish

    @functools.wraps(deliver)
    def counted(self: Any, message: str, *args: Any, **more: Any) -> None:
        topic = self.topic_arn.rpartition(":")[2]
        matcher = self._filter_policy_matcher
        attributes = more.get("message_attributes")
        if matcher is not None and not matcher.matches(attributes, message):
            _deliveries.append((topic, "NumberOfNotificationsFilteredOut"))
            return
        try:
            if self.protocol == "sqs":
                _require(self.topic_arn, self.endpoint)
            deliver(self, message, *args, **more)
        except Exception as error:  # noqa: BLE001 - of an endpoint; a publish succeeds all the same
            log.warning("topic %s could not deliver to %s: %s", topic, self.endpoint, error)
            _deliveries.append((topic, "NumberOfNotificationsFailed"))
            return
        _deliveries.append((topic, "NumberOfNotificationsDelivered"))

    Subscription.publish = counted

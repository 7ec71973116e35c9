"""What IoT Core tells of itself: metrics in AWS/IoT, and lines in the log group AWSIotLogsV2."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.seams import LogSink, MetricSink

log = logging.getLogger(__name__)

GROUP = "AWSIotLogsV2"
NAMESPACE = "AWS/IoT"
LEVELS = ("DEBUG", "INFO", "ERROR", "WARN", "DISABLED")
# What each level lets through.
_SHOWN = {
    "DEBUG": {"DEBUG", "INFO", "WARN", "ERROR"},
    "INFO": {"INFO", "WARN", "ERROR"},
    "WARN": {"WARN", "ERROR"},
    "ERROR": {"ERROR"},
    "DISABLED": set(),
}
MAX_WAITING = 10_000


class Meter:
    """Collects for a moment, then publishes.

    Args:
        metrics: Where metrics go.
        logs: Where lines go.
        account_id: Account in lines.
    """

    def __init__(self, metrics: MetricSink, logs: LogSink, account_id: str) -> None:
        self._metrics = metrics
        self._logs = logs
        self._account_id = account_id
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        self._lines: list[tuple[int, str]] = []
        self.level = "DISABLED"
        # Set by the service: why lines may not be written into a log stream.
        self.refusal: Callable[[str, str], str | None] = lambda *_: None
        self.totals: Counter[str] = Counter()
        self.lines_dropped = 0

    def count(self, name: str, number: int = 1, **dimensions: str) -> None:
        """Counts what happened."""
        self._counts[name, tuple(dimensions.items())] += number
        self.totals[name] += number

    def broker(self, name: str, number: int = 1, protocol: str = "MQTT") -> None:
        """Counts what happened at the broker."""
        self.count(name, number, Protocol=protocol)

    def line(self, level: str, event: str, status: str, **more: Any) -> None:
        """Writes what happened, where the log level says so."""
        if level in {"WARN", "ERROR"}:
            log.info("%s %s: %s", event, status, more)
        if level not in _SHOWN[self.level]:
            return
        if len(self._lines) >= MAX_WAITING:
            self.lines_dropped += 1
            return
        now = dt.datetime.now(dt.UTC)
        told = {
            "timestamp": now.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            "logLevel": level,
            "accountId": self._account_id,
            "status": status,
            "eventType": event,
            "protocol": "MQTT",
            **more,
        }
        self._lines.append((int(now.timestamp() * 1000), orjson.dumps(told).decode()))

    async def publish(self) -> None:
        """Hands over what was collected."""
        counts, self._counts = self._counts, Counter()
        for (name, dimensions), number in counts.items():
            self._metrics.put(
                NAMESPACE, name, float(number), unit="Count", dimensions=dict(dimensions)
            )
        lines, self._lines = self._lines, []
        if not lines:
            return
        stream = time.strftime("%Y-%m-%d")
        refusal = self.refusal(GROUP, stream)
        if refusal is not None:
            self.lines_dropped += len(lines)
            log.warning("lines for %s were not kept: %s", GROUP, refusal)
            return
        try:
            await self._logs.write(GROUP, stream, lines)
        except AwsError as error:
            log.warning("lines for %s were not kept: %s", GROUP, error)

"""Faults of the cloud's own, in what works on its own: they are told, and the work goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.target import Target
from localcloud.app import LocalCloud
from localcloud.cloudwatch import queues
from localcloud.firehose.source import KinesisReader
from localcloud.functions.mapping import EventSourceMapping
from localcloud.http import OWN_FAULT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.asyncio


def failing_once(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The next call of a method fails, and no other."""
    whole, left = getattr(owner, name), [1]

    def method(self: Any, *given: Any) -> Any:
        if left.pop() if left else 0:
            raise RuntimeError("a fault of our own")
        return whole(self, *given)

    patch.setattr(owner, name, method)


async def until(told: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not told():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def test_queue_metrics_that_failed_are_counted_and_come_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queues, "PUBLISH_S", 0.2)
    monkeypatch.setattr(queues, "TOUCHED_S", 0.05)
    failing_once(monkeypatch, queues.QueueMetrics, "_poll")
    async with LocalCloud(port=0) as cloud:
        async with Target.named("local", port=cloud.port).client("sqs") as sqs:
            await sqs.create_queue(QueueName="q")
        (service,) = [s for s in cloud._services if hasattr(s, "_queues")]
        await until(lambda: "q" in service._queues._queues)
        assert service.status()["queue_metrics_failed"] == 1


async def test_a_delivery_stream_and_a_mapping_tell_a_fault_and_read_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    seen: list[str] = []
    monkeypatch.setattr(
        "localcloud.firehose.delivery.Delivery.source_failed",
        lambda _self, error: seen.append(error.message),
    )
    monkeypatch.setattr(EventSourceMapping, "_problem", lambda _self, what: seen.append(what))
    failing_once(monkeypatch, KinesisReader, "_read")
    failing_once(monkeypatch, EventSourceMapping, "_reader")
    async with LocalCloud(port=0) as cloud:
        from stack.config import StackConfig  # noqa: PLC0415 - starts Node
        from stack.deploy import deploy  # noqa: PLC0415

        config = StackConfig.for_target("local", "faults")
        target = Target.named("local", port=cloud.port)
        await deploy(config, target, "builtin", progress=lambda _: None)
        await until(lambda: seen.count(OWN_FAULT) == 2)

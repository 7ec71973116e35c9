"""What is looked at to verify a run: everything of a stack of ours, what there is of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetcast.pipeline import Pipeline
from fleetcast.pipeline.queues import queue_url
from fleetcast.verify.alarms import AlarmHistory, AlarmReader
from fleetcast.verify.archive import ArchivePlace, ArchiveReader
from fleetcast.verify.behind import BacklogReader
from fleetcast.verify.mapped_archive import FieldsArchiveReader
from fleetcast.verify.mapped_series import MappedSeriesReader
from fleetcast.verify.quarantine import QuarantineReader
from fleetcast.verify.timeseries import TimeSeriesReader
from fleetcast.verify.unchecked import not_checked
from fleetcast.verify.undelivered import UndeliveredReader

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from fleetcast.target import Target
    from fleetcast.verify.alarms import Alarms
    from fleetcast.verify.truth import Truth
    from fleetcast.verify.verdict import NotChecked
    from simulator.scenario import Expectations
    from stack.outputs import StackOutputs


@dataclass(frozen=True, slots=True)
class Patience:
    """How long landing may take, seconds.

    Attributes:
        landing_s: From the last acknowledgement until a reading that is not there is lost.
        settle_s: From the last acknowledgement until copies of readings have landed, too.
        poll_s: Between looks.
        receive_s: How long a receive from a queue waits for a first message.
    """

    landing_s: float
    settle_s: float
    poll_s: float
    receive_s: int

    @classmethod
    def of(cls, target: Target, place: StackOutputs | Pipeline) -> Patience:
        """What a target needs."""
        local = target.name == "local"
        poll_s, receive_s = (0.5, 0) if local else (5.0, 2)
        if isinstance(place, Pipeline):
            return cls(place.lands_within, place.settles_after, poll_s, receive_s)
        buffer_s = place.archive_buffer_s
        if local:
            return cls(60.0 + buffer_s, buffer_s + 2.0, poll_s, receive_s)
        return cls(120.0 + 2 * buffer_s, buffer_s + 30.0, poll_s, receive_s)


@dataclass(frozen=True, slots=True)
class Readers:
    """Readers of what a run can land in; None where there is nothing to read.

    Attributes:
        timed: Whether the table tells when a row was written.
        probed: Whether alarms can be seen.
        expect: What can be asked of the run.
        backlog: Tells what is still on its way.
        undelivered: Tells what was given up on; None where nobody keeps that.
        not_checked: What cannot, and why.
    """

    series: TimeSeriesReader | None
    archive: ArchiveReader | None
    quarantine: QuarantineReader | None
    alarms: Alarms | None
    expect: Expectations
    backlog: BacklogReader
    timed: bool = True
    probed: bool = True
    undelivered: UndeliveredReader | None = None
    not_checked: list[NotChecked] = field(default_factory=list)


async def of_stack(
    clients: Clients, outputs: StackOutputs, truth: Truth, run_dir: Path, patience: Patience
) -> Readers:
    """What is looked at of a stack of ours."""
    deadline_ms = deadline(truth, patience)
    sqs, wait_s = await clients("sqs"), patience.receive_s
    return Readers(
        TimeSeriesReader(await clients("timestream-query"), outputs, truth.run.id, deadline_ms),
        ArchiveReader(await clients("s3"), ArchivePlace.of_stack(outputs), truth, deadline_ms),
        QuarantineReader(sqs, outputs.quarantine_queue_url, truth, run_dir, wait_s=wait_s),
        AlarmReader(sqs, outputs, truth.run, run_dir, wait_s=wait_s),
        truth.scenario.expect,
        BacklogReader(
            clients.target, frozenset({outputs.function_name, outputs.delivery_stream_name})
        ),
        probed=bool(outputs.probe_queue_url),
        undelivered=UndeliveredReader(
            sqs, outputs.rule_errors_queue_url, outputs.failure_queue_url, truth, run_dir, wait_s
        ),
    )


async def of_pipeline(
    clients: Clients, pipeline: Pipeline, truth: Truth, run_dir: Path, patience: Patience
) -> Readers:
    """What is looked at of a pipeline of others, as far as its file names it."""
    deadline_ms = deadline(truth, patience)
    series = archive = quarantine = alarms = None
    if pipeline.timeseries is not None:
        query = await clients("timestream-query")
        series = MappedSeriesReader(query, pipeline.timeseries, truth, deadline_ms)
    if (told := pipeline.archive) is not None:
        s3, where = (
            await clients("s3"),
            ArchivePlace(told.bucket, told.prefix, told.format, told.compression),
        )
        if told.fields is None:
            archive = ArchiveReader(s3, where, truth, deadline_ms)
        else:
            archive = FieldsArchiveReader(s3, where, told.fields, truth, deadline_ms)
    if (queue := pipeline.quarantine) is not None:
        sqs = await clients("sqs")
        url = await queue_url(sqs, queue.queue)
        quarantine = QuarantineReader(
            sqs, url, truth, run_dir, wait_s=patience.receive_s, shape=queue
        )
    if pipeline.alarms:
        cloudwatch = await clients("cloudwatch")
        alarms = AlarmHistory(cloudwatch, pipeline.alarms, truth.run, run_dir)
    expect = truth.scenario.expect
    asked = [alarm for alarm in expect.alarms if alarm.name in pipeline.alarms]
    return Readers(
        series,
        archive,
        quarantine,
        alarms,
        expect.model_copy(update={"alarms": asked}),
        BacklogReader(clients.target, None),
        timed=series is not None and series.timed,
        not_checked=list(not_checked(pipeline, truth)),
    )


class Clients:
    """Clients of a target, each made when it is first asked for.

    Args:
        target: Where.
        stack: What closes them.
    """

    def __init__(self, target: Target, stack: AsyncExitStack) -> None:
        self.target = target
        self._stack = stack
        self._made: dict[str, Any] = {}

    async def __call__(self, service: str) -> Any:
        """The client of a service."""
        if service not in self._made:
            self._made[service] = await self._stack.enter_async_context(self.target.client(service))
        return self._made[service]


def deadline(truth: Truth, patience: Patience) -> int:
    """When a reading that is not there is lost, epoch milliseconds."""
    return truth.last_acked_ms + round(patience.landing_s * 1000)

"""The event source mapping of a Kinesis stream: its settings, shards and checkpoints over time.

Follows "Process Amazon Kinesis Data Streams records with Lambda" of the Lambda developer guide. How
records get from a shard into batches is in `shard_reader`, what becomes of a batch in `delivery`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.access.needs import READ, stream_need
from localcloud.durable import moment
from localcloud.functions.delivery import Delivery
from localcloud.functions.filters import RecordFilter
from localcloud.functions.kinesis_event import encoder
from localcloud.functions.mapping_settings import DEFAULTS, check_together
from localcloud.functions.shard_reader import POLL_S, Reading, ShardReader
from localcloud.functions.windows import Window
from localcloud.http import OWN_FAULT, AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.functions.function import Function
    from localcloud.seams import CloudContext, StreamSource

log = logging.getLogger(__name__)

DISCOVER_S = 2.0
# A change is told as done where the batches under way end within this time.
CHANGE_S = 1.0
_METRICS = "EventCount"


@dataclass(slots=True)
class Checkpoints:
    """How far a mapping has come; all that has to be kept for it to go on where it was.

    Attributes:
        positions: The first position of each shard that is not finished.
        finished: Closed shards that were delivered to their end.
        windows: The open tumbling window of each shard that has one.
    """

    positions: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    windows: dict[str, Window] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The checkpoints as a JSON value."""
        return {
            "positions": dict(self.positions),
            "finished": sorted(self.finished),
            "windows": {shard: window.to_json() for shard, window in self.windows.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Checkpoints:
        """The checkpoints that `to_json` gave."""
        return cls(
            dict(value["positions"]),
            set(value["finished"]),
            {shard: Window.from_json(window) for shard, window in value["windows"].items()},
        )


@dataclass(slots=True)
class EventSourceMapping:
    """One mapping from a stream to a function."""

    context: CloudContext
    streams: StreamSource
    function: Function
    source: str
    settings: dict[str, Any]
    enabled: bool = True
    uuid: str = field(default_factory=lambda: str(moment.uuid4()))
    tags: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=moment.now_s)
    last_result: str = "No records processed"
    delivered: int = 0
    given_up: int = 0
    filtered: int = 0
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    draining: bool = False
    _transition: str | None = None
    _changing: asyncio.Task[None] | None = None
    _pollers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Takes the starting position in every shard, and polls if the mapping is enabled.

        What is put into the stream after this returns is delivered. Shards that have a checkpoint
        already, of a mapping that is restored, keep it.
        """
        starting = self.settings["StartingPosition"]
        for shard in self.streams.shard_ids(self.source):
            if shard not in self.checkpoints.positions:
                self.checkpoints.positions[shard] = self.streams.position(
                    self.source, shard, starting, self.settings.get("StartingPositionTimestamp")
                )
            self._tell(shard)
        self._switch()

    def _switch(self) -> None:
        if self.enabled and self._task is None:
            self._task = asyncio.create_task(self._discover())

    async def change(
        self, settings: dict[str, Any], *, enabled: bool, function: Function | None = None
    ) -> None:
        """Applies new settings once the batches under way are finished.

        Returns when that is done, or after a moment, as long as it takes. Batches that failed and
        wait for another try begin anew.

        Raises:
            AwsError: ResourceInUseException while another change goes on.
        """
        if self._transition is not None:
            raise AwsError(
                "ResourceInUseException",
                f"Cannot update the event source mapping because it is in use ({self._transition})",
            )
        check_together({**DEFAULTS, **self.settings, **settings})
        names = {(True, False): "Disabling", (False, True): "Enabling"}
        self._transition = names.get((self.enabled, enabled), "Updating")
        self._changing = asyncio.create_task(self._change(settings, function, enabled=enabled))
        await asyncio.wait({self._changing}, timeout=CHANGE_S)

    async def _change(
        self, settings: dict[str, Any], function: Function | None, *, enabled: bool
    ) -> None:
        try:
            await self._halt(drain=True)
            self.settings.update(settings)
            if self.settings.get("FilterCriteria") in ({}, {"Filters": []}):
                del self.settings["FilterCriteria"]
            if not self.settings.get("TumblingWindowInSeconds"):
                self.checkpoints.windows.clear()
            self.function = function or self.function
            self.enabled = enabled
            self.modified = moment.now_s()
            self._switch()
        finally:
            self._transition = None

    async def stop(self) -> None:
        """Stops polling at once; what is under way is delivered again after a restart."""
        if self._changing is not None:
            self._changing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._changing
        await self._halt(drain=False)

    async def _halt(self, *, drain: bool) -> None:
        self.draining = drain
        tasks = [*self._pollers.values(), *([self._task] if self._task else [])]
        self._task = None
        self._pollers.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def state(self) -> str:
        """As AWS names it."""
        return self._transition or ("Enabled" if self.enabled else "Disabled")

    def describe(self) -> dict[str, Any]:
        """The API's EventSourceMappingConfiguration structure."""
        return {
            "UUID": self.uuid,
            "EventSourceArn": self.source,
            "EventSourceMappingArn": f"arn:aws:lambda:{self.context.region}:"
            f"{self.context.account_id}:event-source-mapping:{self.uuid}",
            "FunctionArn": self.function.arn,
            "LastModified": self.modified,
            "LastProcessingResult": self.last_result,
            "State": self.state,
            "StateTransitionReason": "User action",
            **DEFAULTS,
            **self.settings,
        }

    def backlog(self) -> int:
        """Records that are not finished."""
        total = 0
        for shard, position in self.checkpoints.positions.items():
            try:
                total += max(0, self.streams.position(self.source, shard, "LATEST") - position)
            except AwsError:
                continue
        return total

    def read_refusal(self, actions: Sequence[str] = ("kinesis:GetRecords",)) -> str | None:
        """Why the function's role may not read the stream; None where it may."""
        access = self.context.access
        if not access.enabled:
            return None
        arn, policy, key = access.needs.streams({"StreamARN": self.source})
        try:
            for action in actions:
                need = stream_need(action, arn, policy, key, READ if action in actions[:1] else ())
                access.require("kinesis", need, self.function.acting)
        except AwsError as error:
            return error.message
        return None

    def _problem(self, what: str) -> None:
        self.last_result = f"PROBLEM: {what}"

    def count(self, metric: str, events: int) -> None:
        """Publishes one of the metrics that MetricsConfig asks for."""
        if events and _METRICS in ((self.settings.get("MetricsConfig") or {}).get("Metrics") or ()):
            self.context.metrics.put(
                "AWS/Lambda",
                metric,
                events,
                unit="Count",
                dimensions={"EventSourceMappingUUID": self.uuid},
            )

    def _tell(self, shard: str) -> None:
        """Tells the stream what it need not keep for this mapping."""
        position, window = self.checkpoints.positions[shard], self.checkpoints.windows.get(shard)
        state = window.to_json() if window is not None else None
        self.streams.checkpoint(self.source, self.uuid, shard, position, state)

    def measure_age(self, age_ms: int) -> None:
        """Publishes how old the last record of a batch was when it was finished."""
        self.context.metrics.put(
            "AWS/Lambda",
            "IteratorAge",
            max(0, age_ms),
            unit="Milliseconds",
            dimensions={"FunctionName": self.function.name},
        )

    def restore(self) -> None:
        """Goes on from what was kept of it."""
        for shard, (position, window) in self.streams.places(self.source, self.uuid).items():
            self.checkpoints.positions[shard] = position
            if window is not None:
                self.checkpoints.windows[shard] = Window.from_json(window)

    async def _discover(self) -> None:
        """Keeps a poller for every shard whose parents have been read to their end."""
        await self.context.restored.wait()
        known = self.checkpoints
        while True:
            try:
                shards = self.streams.shard_ids(self.source)
            except AwsError as error:
                self.last_result = f"PROBLEM: {error.message}"
                shards = []
            for shard in shards:
                if shard in self._pollers or shard in known.finished:
                    continue
                parents = self.streams.parents(self.source, shard)
                if all(p in known.finished or p not in known.positions for p in parents):
                    # A shard that appears later is read from its beginning.
                    known.positions.setdefault(
                        shard, self.streams.position(self.source, shard, "TRIM_HORIZON")
                    )
                    self._pollers[shard] = asyncio.create_task(self._poll_for_ever(shard))
            await asyncio.sleep(DISCOVER_S)

    async def _poll_for_ever(self, shard: str) -> None:
        while True:
            try:
                await self._reader(shard).run()
            except* AwsError as errors:
                self.last_result = f"PROBLEM: {errors.exceptions[0]}"
            except* Exception:
                log.exception("event source mapping %s, %s", self.uuid, shard)
                self._problem(OWN_FAULT)
            else:
                self.checkpoints.finished.add(shard)
                return
            await asyncio.sleep(POLL_S)

    def _reader(self, shard: str) -> ShardReader:
        settings = {**DEFAULTS, **self.settings}
        account = self.context.account_id
        role = self.function.settings.get("Role") or f"arn:aws:iam::{account}:role/none"
        known = self.checkpoints

        def moved(position: int, window: Window | None) -> None:
            known.positions[shard] = position
            if window is not None:
                known.windows[shard] = window
            else:
                known.windows.pop(shard, None)
            self._tell(shard)

        def count(read: int, filtered: int) -> None:
            self.filtered += filtered
            self.count("PolledEventCount", read)
            self.count("FilteredOutEventCount", filtered)

        return ShardReader(
            self.streams,
            Reading(
                self.source,
                shard,
                int(settings["ParallelizationFactor"]),
                int(settings["BatchSize"]),
                float(settings["MaximumBatchingWindowInSeconds"]),
                int(settings["TumblingWindowInSeconds"]),
                RecordFilter(settings.get("FilterCriteria")),
                encoder(shard, self.source, self.context.region, role),
                self.read_refusal,
                self._problem,
            ),
            known.positions[shard],
            deliver=Delivery(self, settings).deliver,
            moved=moved,
            count=count,
            idle=lambda: self.measure_age(0),
            window=known.windows.get(shard),
        )

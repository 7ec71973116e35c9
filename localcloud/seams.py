"""The only ways in which services of the local cloud use one another inside the process.

Everything else goes through the public API: `await CloudContext.client("s3")` is an aiobotocore
client pointed at the cloud's own port.
"""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from localcloud.access.control import AccessControl
from localcloud.faults.board import FaultBoard
from localcloud.faults.inject import Injector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from localcloud.clients import Clients
    from localcloud.durable.folder import Folder
    from localcloud.durable.readers import Place
    from localcloud.durable.requests import Requests
    from localcloud.http import Request, Response

StartingPosition = Literal["LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"]


class Service(Protocol):
    """One own service. The front calls `handle` for every request of its signing names."""

    @property
    def signing_names(self) -> tuple[str, ...]:
        """Services, as credential scopes name them, whose requests it answers."""

    async def restore(self) -> None:
        """Takes back what it keeps in the cloud's folder, where there is one.

        Called before `start`, when all requests that are kept were made again.
        """

    async def start(self) -> None:
        """Starts background tasks; called once, when the port is open."""

    async def stop(self) -> None:
        """Stops tasks and child processes; flushes what AWS would have kept."""

    async def handle(self, request: Request) -> Response | None:
        """Answers a request, or returns None to let moto answer it.

        Raises:
            AwsError: rendered by the front in the request's protocol.
        """

    def operations(self) -> frozenset[str]:
        """Names of the API's operations that it answers itself."""

    def status(self) -> dict[str, Any]:
        """Backlog, counts and what is unsupported; shown by `fleetcast cloud status`."""


class MetricSink(Protocol):
    """Takes the metrics that engines publish, as PutMetricData would, without a request."""

    def put(
        self,
        namespace: str,
        name: str,
        values: float | Sequence[float],
        *,
        unit: str = "None",
        dimensions: Mapping[str, str] | None = None,
        timestamp_s: float | None = None,
    ) -> None:
        """Records samples at `timestamp_s` (epoch seconds; None is now)."""

    def put_each(
        self,
        namespace: str,
        values: Mapping[str, float],
        *,
        unit: Callable[[str], str],
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        """Records one sample of each metric by its name, as of now; `unit` tells that of a name."""


class StreamRecord(NamedTuple):
    """One Kinesis record. `data` is base64 text, as it travels in the API.

    A tuple of texts and numbers is nothing that the garbage collector walks through.
    """

    sequence_number: str
    partition_key: str
    data: str
    arrival_ms: int


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Records after a position, in lists of equal length, and where to go on.

    Attributes:
        datas: Their data.
        keys: Their partition keys.
        arrivals_ms: When they arrived, epoch milliseconds.
        next_position: Where to go on; the first record is `len(datas)` before it.
        behind_ms: How old the next record is; 0 at the tip.
        shard_ended: Whether the shard is closed and nothing comes after them.
        number_prefix: What sequence numbers of the shard begin with.
        first_number: What comes after it for position 0.
    """

    datas: Sequence[bytes]
    keys: Sequence[str]
    arrivals_ms: Sequence[int]
    next_position: int
    behind_ms: int
    shard_ended: bool
    number_prefix: str
    first_number: int

    def __len__(self) -> int:
        return len(self.datas)

    @property
    def position(self) -> int:
        """The position of the first record."""
        return self.next_position - len(self.datas)

    def sequence_number(self, position: int) -> str:
        """The sequence number of a position."""
        return f"{self.number_prefix}{self.first_number + position}"

    def sequence_numbers(self) -> list[str]:
        """The sequence numbers of the records."""
        prefix = self.number_prefix
        first = self.first_number + self.position
        return [f"{prefix}{number}" for number in range(first, first + len(self.datas))]

    def texts(self) -> list[str]:
        """The records' data as base64 text."""
        return [str(b2a_base64(data, newline=False), "ascii") for data in self.datas]

    def records(self) -> list[StreamRecord]:
        """The records one by one, in the form of the API."""
        columns = self.sequence_numbers(), self.keys, self.texts(), self.arrivals_ms
        return [StreamRecord(*members) for members in zip(*columns, strict=True)]


class StreamSource(Protocol):
    """Reads of a Kinesis stream by the engines (event source mappings, Firehose).

    A position counts the records ever put into the shard; it stays valid when records expire.
    """

    def shard_ids(self, stream_arn: str) -> list[str]:
        """All shards of the stream, oldest first; raises AwsError where there is no stream."""

    def parents(self, stream_arn: str, shard_id: str) -> list[str]:
        """Shards that must be read to their end before this one."""

    def position(
        self,
        stream_arn: str,
        shard_id: str,
        starting: StartingPosition,
        timestamp_s: float | None = None,
    ) -> int:
        """The position that an iterator of this type starts at."""

    def read(
        self, stream_arn: str, shard_id: str, position: int, limit: int, max_bytes: int
    ) -> StreamBatch:
        """Up to `limit` records and about `max_bytes` of data from `position` on, at once."""

    async def wait(self, stream_arn: str, shard_id: str, position: int, timeout_s: float) -> bool:
        """Waits until there is a record at `position`; False when `timeout_s` passed first."""

    def checkpoint(
        self, stream_arn: str, reader: str, shard_id: str, position: int, state: Any = None
    ) -> None:
        """Tells that `reader` needs nothing before `position`: such records may give way.

        Position and `state`, a JSON value, are kept where the cloud has a folder. A reader that never tells counts as one that needs nothing once it was read. One that has
        told of a shard needs all of the stream's other shards, until it tells or is forgotten.
        """

    def places(self, stream_arn: str, reader: str) -> Mapping[str, Place]:
        """What a reader told last of each shard, before the cloud was started again."""

    def forget(self, stream_arn: str, reader: str) -> None:
        """Tells that a reader is gone and needs nothing any more."""


class StreamWriter(Protocol):
    """Puts records into Kinesis streams for an engine, without a request for each."""

    async def write(
        self, stream_name: str, records: Sequence[tuple[str, bytes]], role_arn: str, session: str
    ) -> list[str]:
        """Puts up to 500 (partition key, data) records as a role.

        Returns:
            An error code for each record, empty where it was stored.

        Raises:
            AwsError: none was stored: there is no such stream, or the role may not put into it.
        """


class LogSink(Protocol):
    """Takes the lines that engines write into log groups, without a request."""

    async def write(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> None:
        """Writes (epoch milliseconds, message) events; makes group and stream where they miss.

        Raises:
            AwsError: they were not kept.
        """


@dataclass(slots=True)
class CloudContext:
    """What every service is built with.

    Attributes:
        host: Loopback address that is listened on.
        port: Its port.
        region: Region that the cloud plays.
        account_id: Account that it plays.
        metrics: Where engines publish their metrics.
        clients: Clients of the cloud itself, set by whoever runs it.
        iam: Whether policies are enforced.
        folder: Where what the cloud holds is kept; None where memory is all.
        requests: The requests that are kept there.
        restored: Is set when all that was kept is back; engines wait for it.
        faults: Faults on the calls that engines make without a request.
        access: Who may do what.
    """

    host: str
    port: int
    region: str
    account_id: str
    metrics: MetricSink
    clients: Clients | None = None
    iam: bool = True
    folder: Folder | None = None
    requests: Requests | None = None
    restored: asyncio.Event = field(init=False)
    faults: Injector = field(init=False)
    access: AccessControl = field(init=False)

    def __post_init__(self) -> None:
        self.restored = asyncio.Event()
        if self.folder is None:
            self.restored.set()
        self.faults = Injector(FaultBoard(), self.metrics)
        self.access = AccessControl(self.account_id, self.region, enabled=self.iam)

    @property
    def endpoint_url(self) -> str:
        """The cloud's own endpoint."""
        return f"http://{self.host}:{self.port}"

    async def client(self, service: str) -> Any:
        """The cloud's aiobotocore client of a service, for what has no narrower seam."""
        if self.clients is None:
            raise RuntimeError("the cloud has no clients of itself before it is started")
        return await self.clients.get(service)

from __future__ import annotations

import asyncio
import inspect
import io
import textwrap
import time
import types
import uuid
import zipfile
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.target import Target
from localcloud.app import LocalCloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from localcloud.kinesis.stream import Stream


class Cloud:
    """A local cloud and its clients, each made once."""

    def __init__(self, local: LocalCloud, open_clients: AsyncExitStack) -> None:
        self.local = local
        self.target = Target.named("local", port=local.port)
        self._open = open_clients
        self._made: dict[str, Any] = {}

    async def client(self, service: str) -> Any:
        if service not in self._made:
            client = self.target.client(service, retries={"total_max_attempts": 1})
            self._made[service] = await self._open.enter_async_context(client)
        return self._made[service]

    def service(self, name: str) -> Any:
        """An own service by its signing name, for what has no API."""
        return next(s for s in self.local._services if name in s.signing_names)


class StreamHandle:
    """One stream of the cloud: its client, and its insides where the API has no word for it."""

    def __init__(self, client: Any, inner: Stream) -> None:
        self.client, self.inner, self.name = client, inner, inner.name

    def hold_clock(self) -> types.SimpleNamespace:
        """Stops the time of every limit; `now` of what is returned moves it."""
        clock = types.SimpleNamespace(now=0.0)
        self.inner.clock.monotonic_s = lambda: clock.now
        for shard in self.inner.shards:
            shard.start_limits()
        return clock

    def shift_clock(self, by_s: float) -> None:
        """Moves the wall time that the stream lives by."""
        self.inner.clock.epoch_s = lambda: time.time() + by_s

    async def put(self, *records: tuple[str, bytes], **more: Any) -> dict[str, Any]:
        entries = [{"PartitionKey": key, "Data": data, **more} for key, data in records]
        return await self.client.put_records(StreamName=self.name, Records=entries)

    async def fill(self, count: int, first: int = 0) -> list[str]:
        """Puts numbered records; returns their sequence numbers."""
        answer = await self.put(*[(str(n), str(n).encode()) for n in range(first, first + count)])
        assert answer["FailedRecordCount"] == 0
        return [record["SequenceNumber"] for record in answer["Records"]]

    async def iterator(self, kind: str, shard: int = 0, **more: Any) -> str:
        answer = await self.client.get_shard_iterator(
            StreamName=self.name,
            ShardId=f"shardId-{shard:012d}",
            ShardIteratorType=kind,
            **more,
        )
        return answer["ShardIterator"]

    async def read(self, kind: str = "TRIM_HORIZON", shard: int = 0, **more: Any) -> list[bytes]:
        iterator = await self.iterator(kind, shard, **more)
        answer = await self.client.get_records(ShardIterator=iterator)
        return [record["Data"] for record in answer["Records"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud() -> AsyncIterator[Cloud]:
    async with LocalCloud(port=0) as local, AsyncExitStack() as open_clients:
        yield Cloud(local, open_clients)


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    async def wait(check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        give_up_s = time.monotonic() + timeout_s
        while True:
            found = check()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            if time.monotonic() > give_up_s:
                raise AssertionError("the condition did not come true")
            await asyncio.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def code_of() -> Callable[[BaseException], str]:
    """The AWS error code of a ClientError."""

    def code(error: BaseException) -> str:
        return str(error.response["Error"]["Code"])  # type: ignore[attr-defined]

    return code


@pytest_asyncio.fixture(loop_scope="module")
async def stream_of(cloud, name):
    client = await cloud.client("kinesis")

    async def create(shards: int = 1) -> StreamHandle:
        await client.create_stream(StreamName=name, ShardCount=shards)
        return StreamHandle(client, cloud.service("kinesis")._control.streams[name])

    return create


@pytest.fixture(scope="session")
def zipped() -> Callable[[str], bytes]:
    """Code of a function as the zip of its one module, `app`."""

    def pack(code: str) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("app.py", textwrap.dedent(code))
        return packed.getvalue()

    return pack


@pytest_asyncio.fixture(loop_scope="module")
async def function_of(
    cloud: Cloud, name: str, zipped: Callable[[str], bytes]
) -> AsyncIterator[Any]:
    client = await cloud.client("lambda")
    made = []

    async def create(code: str, **settings: Any) -> str:
        await client.create_function(
            **{
                "FunctionName": name,
                "Runtime": "python3.12",
                "Role": "arn:aws:iam::123456789012:role/function",
                "Handler": "app.handler",
                "Code": {"ZipFile": zipped(code)},
                "Timeout": 30,
                **settings,
            }
        )
        made.append(name)
        return name

    yield create
    for function in made:
        await client.delete_function(FunctionName=function)

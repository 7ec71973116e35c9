from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import http.client
import inspect
import io
import json
import queue
import textwrap
import threading
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
    from collections.abc import AsyncIterator, Callable, Iterator

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
    # Roles are made up in these tests; those of test_access.py are not.
    async with LocalCloud(port=0, iam=False) as local, AsyncExitStack() as open_clients:
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


# Writes what it is given into a file, a line for each invocation; then does as MODE says.
NOTING = """
    import base64, json, os, time

    def handler(event, context):
        records = event["Records"]
        data = [base64.b64decode(r["kinesis"]["data"]).decode() for r in records]
        with open(os.environ["SEEN"], "a") as seen:
            told = {"whole": event, "lengths": [len(d) for d in data]}
            seen.write(json.dumps(told.get(os.environ["MODE"], data)) + "\\n")
        bad = [r["kinesis"]["sequenceNumber"] for r, d in zip(records, data) if d.startswith("bad")]
        if os.environ["MODE"] == "raise" and bad:
            raise ValueError("bad")
        if os.environ["MODE"] == "crash" and not os.path.exists(os.environ["SEEN"] + ".1"):
            open(os.environ["SEEN"] + ".1", "w").close()
            os._exit(1) if data[0] == "die" else time.sleep(600)
        if os.environ["MODE"] == "once" and bad and not os.path.exists(os.environ["SEEN"] + ".1"):
            open(os.environ["SEEN"] + ".1", "w").close()
            raise ValueError("bad once")
        if os.environ["MODE"] == "hang":
            while any(os.path.exists(os.environ["SEEN"] + "." + d) for d in data):
                time.sleep(0.01)
        if os.environ["MODE"] == "sum":
            if event["isFinalInvokeForWindow"]:
                with open(os.environ["SEEN"] + ".final", "a") as final:
                    final.write(json.dumps(event) + "\\n")
                return {"state": {}}
            size = max([0, *(int(d[4:]) for d in data if d.startswith("big "))])
            return {"state": {"n": event["state"].get("n", 0) + len(data), "big": "x" * size}}
        if os.environ["MODE"] == "report":
            return {"batchItemFailures": [{"itemIdentifier": number} for number in bad]}
        if os.environ["MODE"] == "foreign":
            return {"batchItemFailures": [{"itemIdentifier": "1"}] if bad else []}
"""


class Mapped:
    """A stream, a function that notes what it gets, the mapping, and the queue behind failures."""

    def __init__(self, cloud: Any, stream: Any, function: str, seen: Any, eventually: Any) -> None:
        self.cloud, self.stream, self.function = cloud, stream, function
        self._seen, self._eventually = seen, eventually
        self.uuid = ""

    async def create(self, *, failures: bool = False, **settings: Any) -> None:
        client = await self.cloud.client("lambda")
        if failures:
            sqs = await self.cloud.client("sqs")
            url = (await sqs.create_queue(QueueName=self.function))["QueueUrl"]
            got = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            queue = {"Destination": got["Attributes"]["QueueArn"]}
            settings["DestinationConfig"] = {"OnFailure": queue}
        answer = await client.create_event_source_mapping(
            EventSourceArn=self.stream.inner.arn,
            FunctionName=self.function,
            **{"StartingPosition": "TRIM_HORIZON", **settings},
        )
        self.uuid = answer["UUID"]

    async def put(self, *data: str, **more: Any) -> list[str]:
        answer = await self.stream.put(*[("k", one.encode()) for one in data], **more)
        return [record["SequenceNumber"] for record in answer["Records"]]

    def seen(self) -> list[Any]:
        return [json.loads(line) for line in self._seen.read_text().splitlines()]

    async def seen_when(self, invocations: int) -> list[Any]:
        await self._eventually(lambda: self._seen.exists() and len(self.seen()) >= invocations)
        await self._eventually(lambda: self.status()["backlog"] == 0)
        return self.seen()

    async def seen_some(self) -> None:
        await self._eventually(lambda: self._seen.exists() and self.seen())

    async def seen_exactly(self, batches: list[Any]) -> None:
        await self._eventually(lambda: self.seen() == batches)

    def seen_data(self) -> set[str]:
        return {data for batch in self.seen() for data in batch} if self._seen.exists() else set()

    async def finals_when(self, count: int) -> list[Any]:
        path = self._seen.with_name(self._seen.name + ".final")

        def lines() -> list[str]:
            return path.read_text().splitlines() if path.exists() else []

        await self._eventually(lambda: len(lines()) >= count)
        return [json.loads(line) for line in lines()]

    @property
    def inner(self) -> Any:
        return self.cloud.service("lambda")._mappings.mappings[self.uuid]

    async def has_state(self, state: str) -> bool:
        client = await self.cloud.client("lambda")
        return (await client.get_event_source_mapping(UUID=self.uuid))["State"] == state

    def status(self) -> dict[str, Any]:
        return self.cloud.service("lambda").status()["mappings"][self.uuid]

    async def failure(self) -> dict[str, Any]:
        sqs = await self.cloud.client("sqs")
        url = (await sqs.get_queue_url(QueueName=self.function))["QueueUrl"]

        async def receive() -> list[dict[str, Any]]:
            return (await sqs.receive_message(QueueUrl=url)).get("Messages", [])

        (message,) = await self._eventually(receive)
        return json.loads(message["Body"])


@pytest_asyncio.fixture(loop_scope="module")
async def mapped_of(cloud, stream_of, function_of, tmp_path, eventually):
    async def create(mode: str, shards: int = 1) -> Mapped:
        stream = await stream_of(shards)
        seen = tmp_path / "seen"
        variables = {"SEEN": str(seen), "MODE": mode}
        function = await function_of(NOTING, Environment={"Variables": variables})
        return Mapped(cloud, stream, function, seen, eventually)

    return create


@pytest.fixture
def samples(cloud):
    """Sum of a metric of the last minutes."""

    async def total(namespace: str, metric: str, **dimensions: str) -> float:
        cloudwatch = await cloud.client("cloudwatch")
        end = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
        answer = await cloudwatch.get_metric_statistics(
            Namespace=namespace, MetricName=metric, Statistics=["Sum"], Period=3600,
            Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
            StartTime=end - dt.timedelta(minutes=10), EndTime=end,
        )  # fmt: skip
        return sum(point["Sum"] for point in answer["Datapoints"])

    return total


@dataclasses.dataclass(frozen=True)
class Answer:
    """One HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RawCloud:
    """HTTP to the cloud without an SDK between."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        service: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return await asyncio.to_thread(self._call, method, path, body, service, headers or {})

    def _call(
        self, method: str, path: str, body: bytes, service: str, headers: dict[str, str]
    ) -> Answer:
        scope = f"Credential=fleetcast-local/20260101/us-east-1/{service}/aws4_request"
        signed = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {**(signed if service else {}), **headers})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    async def json_call(self, service: str, target: str, body: Any) -> Answer:
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.call("POST", "/", text, service=service, headers=headers)


@pytest.fixture(scope="module")
def raw(cloud: Cloud) -> RawCloud:
    return RawCloud(cloud.local.port)


@pytest.fixture(scope="module")
def blocking_port() -> Iterator[int]:
    """A local cloud in a thread with a loop of its own, for tests that block; gives its port."""
    started: queue.Queue[LocalCloud | BaseException] = queue.Queue()
    ended: list[Callable[[], Any]] = []

    async def serve() -> None:
        try:
            loop, end = asyncio.get_running_loop(), asyncio.Event()
            ended.append(lambda: loop.call_soon_threadsafe(end.set))
            async with LocalCloud(port=0, iam=False) as local:
                started.put(local)
                await end.wait()
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    local = started.get()
    if isinstance(local, BaseException):
        raise local
    yield local.port
    ended[0]()
    thread.join()

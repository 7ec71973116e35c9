"""One way out of a delivery stream: a buffer, and the objects that are made of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gzip
import io
import logging
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.firehose.positions import Positions, Span
    from localcloud.firehose.settings import Output
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

RETRY_S = (0.5, 10.0)
# Level 6 takes twice the time for objects that are a tenth smaller.
GZIP_LEVEL = 1


@dataclass(slots=True)
class Buffer:
    """Records that wait for the next object.

    Attributes:
        parts: The records' bytes.
        size: Their bytes together.
        oldest_ms: Arrival of the oldest, epoch milliseconds.
        opened_s: Monotonic time at which the first came in.
        spans: How many records came from each read of the source.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    oldest_ms: int = 0
    opened_s: float = 0.0
    spans: dict[Span, int] = field(default_factory=dict)

    def add(self, datas: Sequence[bytes], oldest_ms: int, span: Span | None) -> None:
        """Takes records, of which the oldest arrived at `oldest_ms`."""
        if not self.parts:
            self.opened_s = time.monotonic()
            self.oldest_ms = oldest_ms
        self.oldest_ms = min(self.oldest_ms, oldest_ms)
        self.parts += datas
        self.size += sum(map(len, datas))
        if span is not None:
            self.spans[span] = self.spans.get(span, 0) + len(datas)


class Outlet:
    """Buffers records by size and time and writes them to S3.

    While S3 refuses an object it is tried again; what comes meanwhile is buffered up to one more
    object, then the outlet is full and whoever fills it must wait. Nothing is ever dropped.

    Args:
        context: The cloud.
        name: Name of the delivery stream.
        output: How objects are made; may be changed at any time.
        positions: Told of what is written.
        metrics: Begin of the names of the metrics, such as `DeliveryToS3`; empty for none.
        ended: Called after every attempt, with the error of an object that was refused.
    """

    def __init__(
        self,
        context: CloudContext,
        name: str,
        output: Output,
        positions: Positions,
        metrics: str,
        ended: Callable[[Exception | None], None],
    ) -> None:
        self._context = context
        self._name = name
        self.output = output
        self.version = 1
        self._positions = positions
        self._metrics = metrics
        self._ended = ended
        self._buffer = Buffer()
        self._pending: Buffer | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = asyncio.Event()
        self.objects = 0
        self.records = 0

    def add(self, datas: Sequence[bytes], oldest_ms: int, span: Span | None) -> None:
        """Takes records, of which the oldest arrived at `oldest_ms`; they go into one object."""
        buffer = self._buffer
        was_empty = not buffer.parts
        buffer.add(datas, oldest_ms, span)
        if buffer.size >= self.output.max_bytes:
            self._changed.set()
            if self._pending is not None:
                self._room.clear()
        elif was_empty:
            self._changed.set()

    @property
    def full(self) -> bool:
        """Whether an object waits for S3 and the next is complete, too."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Waits until the outlet is not full."""
        await self._room.wait()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are not in S3 yet."""
        return self._buffer.size + (self._pending.size if self._pending else 0)

    @property
    def oldest_ms(self) -> int | None:
        """Arrival of the oldest record that is not in S3 yet."""
        oldest = [b.oldest_ms for b in (self._pending, self._buffer) if b and b.parts]
        return min(oldest, default=None)

    def change(self, output: Output, version: int) -> None:
        """Makes objects otherwise from now on."""
        self.output, self.version = output, version
        self._changed.set()

    def close(self) -> None:
        """Lets `run` end after one attempt to write what is buffered."""
        self._closing.set()
        self._changed.set()

    async def run(self) -> None:
        """Writes objects until the outlet is closed."""
        s3 = await self._context.client("s3")
        while await self._due():
            self._pending, self._buffer = self._buffer, Buffer()
            attempt = 0
            while not await self._write(s3, self._pending):
                if self._closing.is_set():
                    log.error(
                        "delivery stream %s ends with %d bytes that %s does not take",
                        self._name, self.buffered_bytes, self.output.bucket,
                    )  # fmt: skip
                    return
                attempt += 1
                low, high = RETRY_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._closing.wait(), min(high, low * 2 ** min(attempt, 8))
                    )
            self._pending = None
            self._room.set()

    async def _due(self) -> bool:
        """Waits until the buffer should be written; False when there is nothing more to come."""
        while True:
            self._changed.clear()
            buffer = self._buffer
            if self._closing.is_set():
                return bool(buffer.parts)
            if not buffer.parts:
                await self._changed.wait()
                continue
            left_s = buffer.opened_s + self.output.interval_s - time.monotonic()
            if left_s <= 0 or buffer.size >= self.output.max_bytes:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left_s)

    async def _write(self, s3: Any, buffer: Buffer) -> bool:
        """Writes one object; whether S3 took it."""
        try:
            await self._put_object(s3, buffer)
        except Exception as error:  # noqa: BLE001 - kept and tried again
            log.warning("delivery stream %s: %s", self._name, error)
            self._ended(error)
            self._measure("Success", 0)
            return False
        for span, count in buffer.spans.items():
            self._positions.settle(span, count)
        self._ended(None)
        self.objects += 1
        self.records += len(buffer.parts)
        self._measure("Success", 1)
        self._measure("Records", len(buffer.parts))
        self._measure("Bytes", buffer.size, "Bytes")
        if self._metrics == "DeliveryToS3":
            self._measure("ObjectCount", 1)
        self._measure("DataFreshness", max(0.0, time.time() - buffer.oldest_ms / 1000), "Seconds")
        return True

    async def _put_object(self, s3: Any, buffer: Buffer) -> None:
        output = self.output
        now = dt.datetime.now(output.zone)
        oldest = dt.datetime.fromtimestamp(buffer.oldest_ms / 1000, output.zone)
        name = f"{self._name}-{self.version}-{now:%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}"
        body = await asyncio.to_thread(_packed, buffer.parts, output.compression, name)
        extra = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": output.key_arn}
            if output.key_arn
            else {}
        )
        key = output.evaluated_prefix(oldest) + name + output.extension
        access = self._context.access
        with access.acting(access.role(output.role_arn, self._name)):
            await s3.put_object(Bucket=output.bucket, Key=key, Body=body, **extra)

    def measure_freshness(self) -> None:
        """Tells the age of the oldest record that is not in S3 yet."""
        oldest = self.oldest_ms
        age_s = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
        self._measure("DataFreshness", age_s, "Seconds")

    def _measure(self, name: str, value: float, unit: str = "Count") -> None:
        if self._metrics:
            self._context.metrics.put(
                "AWS/Firehose", f"{self._metrics}.{name}", value, unit=unit,
                dimensions={"DeliveryStreamName": self._name},
            )  # fmt: skip


def _packed(parts: list[bytes], compression: str, name: str) -> bytes:
    body = b"".join(parts)
    if compression == "GZIP":
        return gzip.compress(body, GZIP_LEVEL)
    if compression == "ZIP":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, body)
        return packed.getvalue()
    return body


def s3_error(error: Exception) -> tuple[str, str]:
    """Firehose's error code and message for what S3 answered.

    Codes and messages: "Amazon S3 data delivery errors" of the Firehose developer guide.
    """
    code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""
    return _S3_ERRORS.get(code, _INTERNAL)


_INTERNAL = (
    "InternalError",
    (
        "An internal error occurred while attempting to deliver data. Delivery will be retried; if the "
        "error persists, then it will be reported to AWS for resolution."
    ),
)
_S3_ERRORS = {
    "NoSuchBucket": (
        "S3.NoSuchBucket",
        (
            "The specified bucket does not exist. Create the bucket or use a different bucket that "
            "does exist."
        ),
    ),
    "AccessDenied": (
        "S3.AccessDenied",
        (
            "Access was denied. Ensure that the trust policy for the provided IAM role allows Firehose "
            "to assume the role, and the access policy allows access to the S3 bucket."
        ),
    ),
    "MethodNotAllowed": (
        "S3.MethodNotAllowed",
        (
            "The specified method is not allowed against this resource. Modify the bucket's policy to "
            "allow the correct Amazon S3 operation permissions."
        ),
    ),
    "KMS.NotFoundException": (
        "S3.KMS.NotFoundException",
        (
            "The provided AWS KMS key was not found. If you are using what you believe to be a valid "
            "AWS KMS key with the correct role, check if there is a problem with the account to which "
            "the AWS KMS key is attached."
        ),
    ),
}

"""GetShardIterator and GetRecords: where a read begins, what it returns, how much may be read."""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.limits import MIB
from localcloud.kinesis.shard import READ_BYTES_PER_S

if TYPE_CHECKING:
    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.metrics import Meter
    from localcloud.kinesis.segment import Page
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

MAX_GET_RECORDS = 10_000
MAX_GET_BYTES = 10 * MIB
ITERATOR_LIFE_S = 300
# Stands for the first record there is, in any shard.
_ZERO = "0"


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin: a ShardIteratorType with the sequence number or the time it asks for."""

    kind: Any
    sequence_number: Any = None
    timestamp_s: Any = None

    def position(self, shard: Shard) -> int:
        """The position in a shard.

        Raises:
            AwsError: InvalidArgumentException, or ValidationException where the type is unknown.
        """
        match self.kind:
            case "LATEST":
                return shard.end_position
            case "TRIM_HORIZON":
                return shard.first_position
            case "AT_TIMESTAMP":
                return self._at_timestamp(shard)
            case "AT_SEQUENCE_NUMBER":
                return max(shard.first_position, self._at_number(shard))
            case "AFTER_SEQUENCE_NUMBER":
                return max(shard.first_position, self._at_number(shard) + 1)
        raise AwsError("ValidationException", f"ShardIteratorType {self.kind!r} is unknown")

    def _at_number(self, shard: Shard) -> int:
        number = self.sequence_number
        if number is None:
            raise AwsError(
                "InvalidArgumentException",
                f"Must either specify a sequence number for {self.kind}, or another type",
            )
        if number == _ZERO:
            return shard.first_position - int(self.kind == "AFTER_SEQUENCE_NUMBER")
        position = shard.position_of(str(number))
        if position is None or position > shard.end_position:
            raise AwsError(
                "InvalidArgumentException",
                f"StartingSequenceNumber {number} is not one of shard {shard.shard_id}",
            )
        return position

    def _at_timestamp(self, shard: Shard) -> int:
        timestamp_s = self.timestamp_s
        if not isinstance(timestamp_s, int | float):
            raise AwsError("InvalidArgumentException", "Timestamp is required for AT_TIMESTAMP")
        refuse_future(timestamp_s, shard.clock.epoch_ms())
        return shard.position_at_time(timestamp_s * 1000)


def refuse_future(timestamp_s: float, now_ms: int) -> None:
    """Refuses a time that has not come yet.

    Raises:
        AwsError: InvalidArgumentException.
    """
    # A client's clock, and its rounding, may be a little ahead.
    if timestamp_s * 1000 > now_ms + 1000:
        raise AwsError(
            "InvalidArgumentException",
            "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
            f"timestampInMillis: {timestamp_s * 1000:.0f}, currentTimestampInMillis: {now_ms}",
        )


class Reader:
    """Reads streams for clients.

    Args:
        control: Where the streams are.
        meter: Where metrics go.
        account_id: Account that error messages name.
    """

    def __init__(self, control: ControlPlane, meter: Meter, account_id: str) -> None:
        self._control = control
        self._meter = meter
        self._account_id = account_id

    def get_shard_iterator(self, body: dict[str, Any]) -> dict[str, Any]:
        """GetShardIterator."""
        stream = self._control.find(body)
        shard = stream.shard(body["ShardId"])
        start = Start(
            body["ShardIteratorType"], body.get("StartingSequenceNumber"), body.get("Timestamp")
        )
        position = start.position(shard)
        if shard.iterator_calls.refill(shard.clock.monotonic_s()) < 1:
            raise self._exceeded(stream, shard)
        self._control.end_dry_run(body)
        shard.iterator_calls.tokens -= 1
        return {"ShardIterator": _iterator(stream, shard, position)}

    def get_records(self, body: dict[str, Any]) -> dict[str, Any]:
        """GetRecords."""
        began_s = time.perf_counter()
        stream, shard, position = self._from_iterator(body)
        limit = body.get("Limit", MAX_GET_RECORDS)
        if not isinstance(limit, int) or not 1 <= limit <= MAX_GET_RECORDS:
            raise AwsError("InvalidArgumentException", f"Limit must be from 1 to {MAX_GET_RECORDS}")
        now_s = shard.clock.monotonic_s()
        if shard.read_calls.refill(now_s) < 1 or shard.read_bytes.refill(now_s) <= 0:
            shard.tally.read_throttled += 1
            self._meter.stream(
                stream, {"ReadProvisionedThroughputExceeded": 1, "GetRecords.Success": 0}
            )
            raise self._exceeded(stream, shard)
        self._control.end_dry_run(body)
        page = shard.read(position, limit, MAX_GET_BYTES)
        shard.read_calls.tokens -= 1
        if page.size > READ_BYTES_PER_S:
            # More than a second's worth: the shard rests until all of it is paid, which is 5 s
            # after the 10 MiB that a call can return.
            shard.read_bytes.tokens = -page.size
        else:
            shard.read_bytes.tokens -= page.size
        answer = {
            "Records": records_of(shard, page),
            "NextShardIterator": None
            if page.ended
            else _iterator(stream, shard, page.next_position),
            "MillisBehindLatest": page.behind_ms,
            "ChildShards": stream.children(shard) if page.ended else [],
        }
        self.measure(stream, shard, page, (time.perf_counter() - began_s) * 1000)
        return answer

    def measure(self, stream: Stream, shard: Shard, page: Page, elapsed_ms: float) -> None:
        """Publishes what one read did."""
        age_ms = 0
        if page.datas and page.behind_ms:
            age_ms = max(0, shard.clock.epoch_ms() - page.arrivals_ms[-1])
        tally = shard.tally
        tally.out_records += len(page.datas)
        tally.out_bytes += page.size
        tally.age_ms = max(tally.age_ms or 0, age_ms)
        self._meter.stream(
            stream,
            {
                "GetRecords.Success": 1,
                "GetRecords.Records": len(page.datas),
                "GetRecords.Bytes": page.size,
                "GetRecords.Latency": elapsed_ms,
                "GetRecords.IteratorAgeMilliseconds": age_ms,
                "ReadProvisionedThroughputExceeded": 0,
            },
        )

    def stream_of(self, body: dict[str, Any]) -> Stream:
        """The stream of a ShardIterator.

        Raises:
            AwsError: it is none, or expired.
        """
        return self._from_iterator(body)[0]

    def _exceeded(self, stream: Stream, shard: Shard) -> AwsError:
        return AwsError(
            "ProvisionedThroughputExceededException",
            f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} "
            f"under account {self._account_id}.",
        )

    def _from_iterator(self, body: dict[str, Any]) -> tuple[Stream, Shard, int]:
        try:
            text = base64.b64decode(body["ShardIterator"], validate=True).decode()
            arn, created_s, shard_id, position, made_s = text.split("|")
            at, age_from_s = int(position), float(made_s)
        except (binascii.Error, TypeError, ValueError) as error:
            raise AwsError("InvalidArgumentException", "Invalid ShardIterator.") from error
        if body.get("StreamARN", arn) != arn:
            raise AwsError(
                "InvalidArgumentException", "StreamARN is not that of the ShardIterator's stream"
            )
        stream = self._control.by_arn(arn)
        if str(stream.created_s) != created_s:
            raise AwsError("ResourceNotFoundException", "the ShardIterator's stream was deleted")
        if stream.clock.epoch_s() - age_from_s > ITERATOR_LIFE_S:
            raise AwsError(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created more than {ITERATOR_LIFE_S} s ago.",
            )
        return stream, stream.shard(shard_id), at


def records_of(shard: Shard, page: Page) -> list[dict[str, Any]]:
    """The API's Record structures."""
    prefix = shard.number_prefix
    found: list[dict[str, Any]] = [
        {
            "SequenceNumber": f"{prefix}{number}",
            "ApproximateArrivalTimestamp": arrival_ms / 1000,
            "Data": data,
            "PartitionKey": key,
            "EncryptionType": encryption_type,
        }
        for number, arrival_ms, data, key, encryption_type in zip(
            range(page.position + shard.first_number, page.next_position + shard.first_number),
            page.arrivals_ms,
            page.datas,
            page.keys,
            page.encryption_types,
            strict=True,
        )
    ]
    if "" in page.keys:
        # Its producer gave none, which a stream that distributes records itself allows.
        for record in found:
            if not record["PartitionKey"]:
                del record["PartitionKey"]
    return found


def _iterator(stream: Stream, shard: Shard, position: int) -> str:
    text = (
        f"{stream.arn}|{stream.created_s}|{shard.shard_id}|{position}|{stream.clock.epoch_s():.3f}"
    )
    return base64.b64encode(text.encode()).decode()

"""PutRecord and PutRecords: what a call may hold, where its records go, which of them are taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.encoding import bytes_of
from localcloud.kinesis.limits import MIB
from localcloud.kinesis.shard import MAX_HASH_KEY
from localcloud.kinesis.stream import AUTO, ON_DEMAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.memory import Memory
    from localcloud.kinesis.metrics import Meter
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Stream

MAX_RECORDS = 500
MAX_CALL_BYTES = 10 * MIB
MAX_KEY_LENGTH = 256
THROTTLED = "ProvisionedThroughputExceededException"
FULL = "InternalFailure"
_FULL_MESSAGE = (
    "Internal Service Failure: the local cloud's streams hold FLEETCAST_KINESIS_MIB of records "
    "that were not read; read them, shorten the retention or raise it"
)


@dataclass(slots=True)
class Batch:
    """The records of one call that go to one shard; `indexes` are their places in the call."""

    indexes: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    datas: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    explicit: list[str | None] | None = None

    def add(self, index: int, key: str, data: bytes, size: int) -> None:
        """Takes one record."""
        self.indexes.append(index)
        self.keys.append(key)
        self.datas.append(data)
        self.sizes.append(size)

    def only(self, places: Sequence[int]) -> Batch:
        """The records at some places of this batch."""

        def pick(values: Any) -> Any:
            return [values[place] for place in places]

        explicit = None if self.explicit is None else pick(self.explicit)
        return Batch(
            pick(self.indexes), pick(self.keys), pick(self.datas), pick(self.sizes), explicit
        )


@dataclass(slots=True)
class Outcome:
    """What became of a call's records.

    Attributes:
        total: Records of the call.
        placed: (shard, places in the call, position of the first) of what was stored.
        refused: (code, message) by place.
        size: Bytes that were stored, data and keys.
    """

    total: int
    placed: list[tuple[Shard, list[int], int]] = field(default_factory=list)
    refused: dict[int, tuple[str, str]] = field(default_factory=dict)
    size: int = 0

    @property
    def throttled(self) -> int:
        """Records that a limit refused."""
        return sum(code == THROTTLED for code, _ in self.refused.values())

    def entries(self) -> list[dict[str, str]]:
        """The Records of PutRecords' answer."""
        found: list[dict[str, str]] = [{}] * self.total
        for shard, indexes, first in self.placed:
            for position, index in enumerate(indexes, first):
                found[index] = {
                    "SequenceNumber": shard.sequence_number(position),
                    "ShardId": shard.shard_id,
                }
        for index, (code, message) in self.refused.items():
            found[index] = {"ErrorCode": code, "ErrorMessage": message}
        return found

    def json(self, encryption_type: str) -> bytes:
        """PutRecords' answer as JSON. Written by hand: it costs less than the dictionaries."""
        parts = [""] * self.total
        for shard, indexes, first in self.placed:
            head = f'{{"SequenceNumber":"{shard.number_prefix}'
            tail = f'","ShardId":"{shard.shard_id}"}}'
            for number, index in enumerate(indexes, first + shard.first_number):
                parts[index] = f"{head}{number}{tail}"
        # Stream names, shard ids and our own words need no escaping.
        for index, (code, message) in self.refused.items():
            parts[index] = f'{{"ErrorCode":"{code}","ErrorMessage":"{message}"}}'
        return (
            f'{{"FailedRecordCount":{len(self.refused)},"EncryptionType":"{encryption_type}",'
            f'"Records":[{",".join(parts)}]}}'
        ).encode()


class Writer:
    """Takes records into streams.

    Args:
        control: Where the streams are.
        memory: The bound on what they hold.
        meter: Where metrics go.
        account_id: Account that error messages name.
    """

    def __init__(
        self, control: ControlPlane, memory: Memory, meter: Meter, account_id: str
    ) -> None:
        self._control = control
        self._memory = memory
        self._meter = meter
        self._account_id = account_id

    def put_record(self, body: dict[str, Any]) -> dict[str, Any]:
        """PutRecord."""
        stream = self._control.find(body)
        began_s = time.perf_counter()
        batches = _sorted_by_shard(stream, [body], MAX_CALL_BYTES)
        ((shard, _),) = batches.items()
        _check_ordering(stream, shard, body.get("SequenceNumberForOrdering"))
        self._control.end_dry_run(body)
        outcome = self._store(stream, batches, 1)
        elapsed_ms = (time.perf_counter() - began_s) * 1000
        throttled = outcome.throttled
        self._meter.stream(
            stream,
            {
                "PutRecord.Success": len(outcome.placed),
                "PutRecord.Latency": elapsed_ms,
                "PutRecord.Bytes": outcome.size,
                "IncomingRecords": len(outcome.placed),
                "IncomingBytes": outcome.size,
                "WriteProvisionedThroughputExceeded": throttled,
            },
        )
        if outcome.refused:
            code, message = outcome.refused[0]
            raise AwsError(code, message, 500 if code == FULL else 400)
        return {**outcome.entries()[0], "EncryptionType": stream.encryption_type}

    def put_records(self, body: dict[str, Any]) -> tuple[Stream, Outcome]:
        """PutRecords."""
        stream = self._control.find(body)
        entries = body["Records"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_RECORDS:
            raise AwsError(
                "ValidationException",
                f"1 validation error detected: Value at 'records' failed to satisfy constraint: "
                f"Member must have length between 1 and {MAX_RECORDS}",
            )
        began_s = time.perf_counter()
        # All are looked at before one is stored: a call that fails leaves nothing behind.
        batches = _sorted_by_shard(stream, entries, MAX_CALL_BYTES)
        self._control.end_dry_run(body)
        outcome = self._store(stream, batches, len(entries))
        elapsed_ms = (time.perf_counter() - began_s) * 1000
        good, throttled = outcome.total - len(outcome.refused), outcome.throttled
        self._meter.stream(
            stream,
            {
                "PutRecords.Success": int(good > 0),
                "PutRecords.Latency": elapsed_ms,
                "PutRecords.Bytes": outcome.size,
                "PutRecords.TotalRecords": outcome.total,
                "PutRecords.SuccessfulRecords": good,
                "PutRecords.FailedRecords": len(outcome.refused) - throttled,
                "PutRecords.ThrottledRecords": throttled,
                "IncomingRecords": good,
                "IncomingBytes": outcome.size,
                "WriteProvisionedThroughputExceeded": throttled,
            },
        )
        return stream, outcome

    def _store(self, stream: Stream, batches: dict[Shard, Batch], total: int) -> Outcome:
        outcome = Outcome(total)
        if not self._memory.room(self._control.streams.values()):
            self._memory.refused_records += total
            for batch in batches.values():
                outcome.refused.update(dict.fromkeys(batch.indexes, (FULL, _FULL_MESSAGE)))
            return outcome
        now_s, arrival_ms = stream.clock.monotonic_s(), stream.clock.epoch_ms()
        for shard, batch in batches.items():
            size = sum(batch.sizes)
            admitted = batch
            if not shard.admit_all(len(batch.sizes), size, now_s):
                places = [n for n, one in enumerate(batch.sizes) if shard.admit(one)]
                admitted = batch.only(places)
                size = sum(admitted.sizes)
                self._refuse(stream, shard, batch, set(places), outcome)
            if admitted.datas:
                first = self._append(stream, shard, admitted, size, arrival_ms)
                outcome.placed.append((shard, admitted.indexes, first))
                outcome.size += size
        if stream.mode == ON_DEMAND:
            good = total - len(outcome.refused)
            stream.throughput.add(outcome.size, good, stream.clock.epoch_s())
        return outcome

    def _append(
        self, stream: Stream, shard: Shard, batch: Batch, size: int, arrival_ms: int
    ) -> int:
        """Stores what a shard admitted of one call; every record of every stream comes by here."""
        before = shard.bytes_held
        first = shard.append(
            batch.keys, batch.datas, size, arrival_ms, stream.encryption_type, batch.explicit
        )
        self._memory.held_bytes += shard.bytes_held - before
        shard.tally.in_records += len(batch.datas)
        shard.tally.in_bytes += size
        return first

    def _refuse(
        self, stream: Stream, shard: Shard, batch: Batch, good: set[int], outcome: Outcome
    ) -> None:
        message = (
            f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} "
            f"under account {self._account_id}."
        )
        bad = [index for place, index in enumerate(batch.indexes) if place not in good]
        shard.tally.write_throttled += len(bad)
        outcome.refused.update(dict.fromkeys(bad, (THROTTLED, message)))


def _sorted_by_shard(
    stream: Stream, entries: list[dict[str, Any]], max_bytes: int
) -> dict[Shard, Batch]:
    """The records of a call by the shard they go to.

    Raises:
        AwsError: one of them is malformed or too large, or all are too much.
    """
    if stream.distribution == AUTO:
        return _spread(stream, entries, max_bytes)
    batches: dict[Shard, Batch] = {}
    routes = stream.routes
    left, most = max_bytes, stream.max_record_bytes
    for index, entry in enumerate(entries):
        data = bytes_of(entry["Data"])
        key = entry["PartitionKey"]
        route = routes.get(key) if isinstance(key, str) else None
        if route is None:
            route = stream.route(_checked_key(key))
        size = len(data) + route.key_bytes
        left -= size
        if size > most or left < 0:
            raise _too_large(size, most)
        shard = route.shard
        explicit = entry.get("ExplicitHashKey")
        if explicit is not None:
            shard = stream.shard_for(_explicit(explicit))
        batch = batches.get(shard)
        if batch is None:
            batch = batches[shard] = Batch()
        if explicit is not None or batch.explicit is not None:
            if batch.explicit is None:
                batch.explicit = [None] * len(batch.indexes)
            batch.explicit.append(explicit)
        batch.add(index, route.key, data, size)
    return batches


def _spread(stream: Stream, entries: list[dict[str, Any]], max_bytes: int) -> dict[Shard, Batch]:
    """As `_sorted_by_shard`, of a stream that distributes records itself, by turns."""
    batches: dict[Shard, Batch] = {}
    left, most = max_bytes, stream.max_record_bytes
    for index, entry in enumerate(entries):
        data = bytes_of(entry["Data"])
        key = _checked_key(entry["PartitionKey"]) if entry.get("PartitionKey") else ""
        size = len(data) + len(key.encode())
        left -= size
        if size > most or left < 0:
            raise _too_large(size, most)
        batches.setdefault(stream.next_shard(), Batch()).add(index, key, data, size)
    return batches


def _checked_key(key: Any) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise AwsError(
            "ValidationException", f"PartitionKey must have 1 to {MAX_KEY_LENGTH} characters"
        )
    return key


def _too_large(size: int, most: int) -> AwsError:
    if size > most:
        return AwsError(
            "InvalidArgumentException",
            f"record (data and partition key) exceeds {most // MIB} MiB ({most} bytes), "
            "the stream's MaxRecordSizeInKiB",
        )
    return AwsError(
        "InvalidArgumentException", f"Records size exceeds {MAX_CALL_BYTES // MIB} MB limit"
    )


def _explicit(text: Any) -> int:
    if not isinstance(text, str) or not text.isdigit() or int(text) > MAX_HASH_KEY:
        raise AwsError("InvalidArgumentException", f"Invalid ExplicitHashKey. {text!r}")
    return int(text)


def _check_ordering(stream: Stream, shard: Shard, number: Any) -> None:
    """Refuses a SequenceNumberForOrdering that the next sequence number would not exceed.

    Raises:
        AwsError: InvalidArgumentException.
    """
    if number is None:
        return
    following = int(shard.sequence_number(shard.end_position))
    if not isinstance(number, str) or not number.isdigit() or int(number) >= following:
        raise AwsError(
            "InvalidArgumentException",
            f"ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {stream.name} "
            "is invalid.",
        )

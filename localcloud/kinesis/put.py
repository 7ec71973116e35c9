"""PutRecord and PutRecords: what a call may hold, where its records go, which of them are taken."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.encoding import bytes_of, decode
from localcloud.kinesis.kept import Put
from localcloud.kinesis.limits import MIB
from localcloud.kinesis.segment import Accepted
from localcloud.kinesis.shard import MAX_HASH_KEY
from localcloud.kinesis.stream import AUTO, ON_DEMAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.kept import KeptStreams
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


# A record on its way into a shard: its place in the call, its key, its data, and the bytes of both.
Placed = tuple[int, str, bytes, int]


@dataclass(slots=True)
class Call:
    """The records of one call by the shard that each goes to.

    Attributes:
        shards: Records by shard.
    """

    shards: dict[Shard, list[Placed]]


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
    placed: list[tuple[Shard, Sequence[int], int]] = field(default_factory=list)
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
        kept: Where records are kept; None where memory is all.
    """

    def __init__(
        self, control: ControlPlane, memory: Memory, meter: Meter, account_id: str,
        kept: KeptStreams | None = None,
    ) -> None:  # fmt: skip
        self._control = control
        self._memory = memory
        self._meter = meter
        self._account_id = account_id
        self._kept = kept

    def put_record(self, body: dict[str, Any]) -> dict[str, Any]:
        """PutRecord."""
        stream = self._control.find(body)
        began_s = time.perf_counter()
        call = _sorted_by_shard(stream, [body], MAX_CALL_BYTES)
        (shard,) = call.shards
        _check_ordering(stream, shard, body.get("SequenceNumberForOrdering"))
        self._control.end_dry_run(body)
        outcome = self._store(stream, call, 1)
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
        call = _sorted_by_shard(stream, entries, MAX_CALL_BYTES)
        self._control.end_dry_run(body)
        outcome = self._store(stream, call, len(entries))
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

    def _store(self, stream: Stream, call: Call, total: int) -> Outcome:
        outcome = Outcome(total)
        if not self._memory.room(self._control.streams.values()):
            self._memory.refused_records += total
            outcome.refused = dict.fromkeys(range(total), (FULL, _FULL_MESSAGE))
            return outcome
        now_s, arrival_ms = stream.clock.monotonic_s(), stream.clock.epoch_ms()
        puts: list[Put] = []
        for shard, records in call.shards.items():
            admitted = records
            size = sum([one[3] for one in records])
            if not shard.admit_all(len(records), size, now_s):
                admitted = [one for one in records if shard.admit(one[3])]
                size = sum([one[3] for one in admitted])
                self._refuse(stream, shard, records, admitted, outcome)
                if not admitted:
                    continue
            indexes, keys, datas, _ = zip(*admitted, strict=True)
            accepted = Accepted(keys, datas, size, arrival_ms, stream.encryption_type)
            puts.append(Put(shard, shard.end_position, accepted))
            outcome.placed.append((shard, indexes, shard.end_position))
            outcome.size += size
        if self._kept is not None and puts:
            self._kept.append(stream, puts)
        for put in puts:
            self._append(put.shard, put.accepted)
        if stream.mode == ON_DEMAND:
            good = total - len(outcome.refused)
            stream.throughput.add(outcome.size, good, stream.clock.epoch_s())
        return outcome

    def _append(self, shard: Shard, accepted: Accepted) -> None:
        """Stores what a shard admitted of one call; every record of every stream comes by here."""
        before = shard.bytes_held
        shard.append(accepted)
        self._memory.held_bytes += shard.bytes_held - before
        shard.tally.in_records += len(accepted.datas)
        shard.tally.in_bytes += accepted.size

    def _refuse(
        self,
        stream: Stream,
        shard: Shard,
        records: list[Placed],
        admitted: list[Placed],
        outcome: Outcome,
    ) -> None:
        message = (
            f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} "
            f"under account {self._account_id}."
        )
        good = {one[0] for one in admitted}
        bad = [one[0] for one in records if one[0] not in good]
        shard.tally.write_throttled += len(bad)
        outcome.refused.update(dict.fromkeys(bad, (THROTTLED, message)))


def _sorted_by_shard(stream: Stream, entries: list[dict[str, Any]], max_bytes: int) -> Call:
    """The records of a call by the shard they go to.

    This is where a record costs most, so it is one loop without calls of our own.

    Raises:
        AwsError: one of them is malformed or too large, or all are too much.
    """
    if stream.distribution == AUTO:
        return _spread(stream, entries, max_bytes)
    shards: dict[Shard, list[Placed]] = {}
    call = Call(shards)
    routes = stream.routes
    left, most = max_bytes, stream.max_record_bytes
    for index, entry in enumerate(entries):
        data, key = entry["Data"], entry["PartitionKey"]
        try:
            if data.__class__ is not bytes:
                data = decode(data, strict_mode=True)
            shard = routes.get(key)
        except (TypeError, ValueError) as error:
            raise _malformed(data, key, error) from error
        if shard is None:
            shard = stream.route(_checked_key(key))
        size = len(data) + (len(key) if key.isascii() else len(key.encode()))
        left -= size
        if size > most or left < 0:
            raise _too_large(size, most)
        if "ExplicitHashKey" in entry and entry["ExplicitHashKey"] is not None:
            shard = stream.shard_for(_explicit(entry["ExplicitHashKey"]))
        if shard in shards:
            shards[shard].append((index, key, data, size))
        else:
            shards[shard] = [(index, key, data, size)]
    return call


def _malformed(data: Any, key: Any, error: Exception) -> AwsError:
    """What is wrong with a record that could not be read."""
    _checked_key(key)
    bytes_of(data)
    return AwsError("SerializationException", f"a record is malformed: {error}")


def _spread(stream: Stream, entries: list[dict[str, Any]], max_bytes: int) -> Call:
    """As `_sorted_by_shard`, of a stream that distributes records itself, by turns."""
    call = Call({})
    left, most = max_bytes, stream.max_record_bytes
    for index, entry in enumerate(entries):
        data = bytes_of(entry["Data"])
        key = _checked_key(entry["PartitionKey"]) if entry.get("PartitionKey") else ""
        size = len(data) + len(key.encode())
        left -= size
        if size > most or left < 0:
            raise _too_large(size, most)
        call.shards.setdefault(stream.next_shard(), []).append((index, key, data, size))
    return call


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
    if not isinstance(text, str) or not text.isdecimal() or int(text) > MAX_HASH_KEY:
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
    if not isinstance(number, str) or not number.isdecimal() or int(number) >= following:
        raise AwsError(
            "InvalidArgumentException",
            f"ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {stream.name} "
            "is invalid.",
        )

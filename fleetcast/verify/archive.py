"""What landed in the S3 archive: every line of every object that the run's hours hold.

A line is compared as bytes, by its hash; one that is no payload of the run is looked into.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fleetcast.verify.exceptions import MOST, Exceptions
from fleetcast.verify.truth import ACKED, UNKNOWN, Bools, Ints, payload_hashes
from fleetcast.verify.verdict import Landed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.verify.truth import Truth
    from stack.outputs import StackOutputs

OBJECTS_AT_ONCE = 8
# Object times are whole seconds, and clocks differ a little.
SLACK_S = 2
# By how much the simulator's clock may be off: beyond that, AWS refuses what it signs.
CLOCK_SLACK_S = 300
_GZIP = 31
_GZIP_MAGIC = b"\x1f\x8b"
STORE = "archive"
Times = NDArray[np.int16]


class ArchiveReader:
    """Reads the archive of one run, object by object; may be asked again as more arrives.

    Args:
        client: An `s3` client.
        outputs: Which bucket and prefix.
        truth: What was sent.
        deadline_ms: Objects written after it are late, epoch milliseconds.

    Attributes:
        deadline_ms: As above.
        since_ms: Objects written before it are none of the run's, epoch milliseconds: its start,
            or earlier where the stream's clock says so.
        written_s: When each reading's first object was written, epoch seconds, by number; 0 where
            it is in none.
        overtaken: Which readings stand in their object behind a later one of their device.
        foreign: Lines of other runs, or of nobody.
        unreadable: Keys of objects that are no GZIP, with the reason.
    """

    def __init__(self, client: Any, outputs: StackOutputs, truth: Truth, deadline_ms: int) -> None:
        self._client = client
        self._outputs = outputs
        self._truth = truth
        self.deadline_ms = deadline_ms
        self.since_ms = truth.run.start_ms
        self._seen: set[str] = set()
        self._run = json.dumps(truth.run.id).encode()
        self._times = np.zeros(len(truth.outcome), dtype=np.int16)
        self.written_s: NDArray[np.uint32] = np.zeros(len(truth.outcome), dtype=np.uint32)
        self.overtaken: Bools = np.zeros(len(truth.outcome), dtype=np.bool_)
        self._corrupted: dict[int, int] = {}
        self._phantom = 0
        self._strange = Exceptions()
        self.foreign = 0
        self.unreadable: dict[str, str] = {}

    async def poll(self) -> None:
        """Reads the objects that are new."""
        fresh: list[tuple[int, str]] = []
        for prefix in self._hours():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._outputs.archive_bucket, Prefix=prefix
            )
            async for page in pages:
                for item in page.get("Contents", ()):
                    written_s = item["LastModified"].timestamp()
                    before = written_s + SLACK_S < self.since_ms / 1000
                    if not before and item["Key"] not in self._seen:
                        fresh.append((int(written_s), item["Key"]))
        fresh.sort()
        for first in range(0, len(fresh), OBJECTS_AT_ONCE):
            some = fresh[first : first + OBJECTS_AT_ONCE]
            bodies = await asyncio.gather(*(self._get(key) for _, key in some))
            for (written_s, key), body in zip(some, bodies, strict=True):
                await asyncio.to_thread(self._take, key, written_s, body)
                self._seen.add(key)

    def _hours(self) -> Iterator[str]:
        """Prefixes of the hours in which the run's records arrived."""
        hour = dt.datetime.fromtimestamp(self.since_ms / 1000, dt.UTC)
        hour = hour.replace(minute=0, second=0, microsecond=0)
        end = dt.datetime.fromtimestamp(self.deadline_ms / 1000 + CLOCK_SLACK_S, dt.UTC)
        while hour <= end:
            yield f"{self._outputs.archive_prefix}{hour:%Y/%m/%d/%H}/"
            hour += dt.timedelta(hours=1)

    async def _get(self, key: str) -> bytes:
        answer = await self._client.get_object(Bucket=self._outputs.archive_bucket, Key=key)
        body: bytes = await answer["Body"].read()
        return body

    def _take(self, key: str, written_s: int, body: bytes) -> None:
        try:
            content = unpacked(key, body)
        except zlib.error as error:
            self.unreadable[key] = str(error)
            return
        lines = [line for line in content.split(b"\n") if line]
        found = self._truth.find(payload_hashes(lines))
        known = found[found >= 0]
        self._place(known[self._times[known] == 0], written_s)
        np.add.at(self._times, known, 1)
        for index in np.flatnonzero(found < 0).tolist():
            self._look_into(lines[index])

    def _place(self, numbers: Ints, written_s: int) -> None:
        """Notes when and in which order readings that are new stand in an object, as they stand."""
        _, first = np.unique(numbers, return_index=True)
        numbers = numbers[np.sort(first)]
        self.written_s[numbers] = np.where(
            self.written_s[numbers] > 0, np.minimum(self.written_s[numbers], written_s), written_s
        )
        devices = self._truth.fleet.devices_in_turn(numbers)
        order = np.argsort(devices, kind="stable")
        # Of one device the later reading has the higher number; devices lie one after the other.
        reached = np.maximum.accumulate(devices[order] * len(self._times) + numbers[order])
        late = devices[order] * len(self._times) + numbers[order] < reached
        self.overtaken[numbers[order][late]] = True

    def _look_into(self, line: bytes) -> None:
        """Counts a line that is no payload of the run."""
        if self._run not in line:
            self.foreign += 1
            return
        try:
            reading = json.loads(line)
            k = self._truth.number(str(reading["device"]), int(reading["seq"]))
        except (ValueError, TypeError, KeyError):
            k = -1
        if k >= 0 and self._truth.outcome[k] in (ACKED, UNKNOWN):
            self._corrupted[k] = self._corrupted.get(k, 0) + 1
            self._strange.add(STORE, "corrupted", [k], line.decode(errors="replace"))
        else:
            self._phantom += 1
            self._strange.stranger(STORE, "", -1, line.decode(errors="replace"))

    def landed(self) -> Landed:
        """What was found so far."""
        truth = self._truth
        sent = self._sent()
        times = self._times_there()
        there = (times > 0) & sent
        return Landed(
            unique=int(there.sum()),
            duplicated=int(self._beyond(times)[there].sum()),
            lost=int(np.maximum(truth.acked_copies - times, 0).sum()),
            phantom=self._phantom + int(times[~sent].sum()),
            corrupted=sum(self._corrupted.values()),
            late=int((self._late() & sent).sum()),
        )

    def exceptions(self) -> Exceptions:
        """The readings that are behind `landed`."""
        sent, times = self._sent(), self._times_there()
        found = self._strange
        found.add(STORE, "lost", _first(self._truth.acked_copies > times))
        found.add(STORE, "duplicated", _first((self._beyond(times) > 0) & (times > 0) & sent))
        found.add(STORE, "phantom", _first((times > 0) & ~sent))
        found.add(STORE, "late", _first(self._late() & sent))
        return found

    @property
    def there(self) -> Bools:
        """Which readings are in an object, by number."""
        there: Bools = self._times_there() > 0
        return there

    def _late(self) -> Bools:
        """Readings whose first object was written after the deadline."""
        late: Bools = self.written_s > self.deadline_ms / 1000 + SLACK_S
        return late

    def _sent(self) -> Bools:
        outcome = self._truth.outcome
        sent: Bools = (outcome == ACKED) | (outcome == UNKNOWN)
        return sent

    def _times_there(self) -> Times:
        """How often each reading is there, corrupted or not."""
        times = self._times.copy()
        for k, count in self._corrupted.items():
            times[k] += count
        return times

    def _beyond(self, times: Times) -> Times:
        """Copies beyond those that were sent."""
        most = self._truth.acked_copies + self._truth.open_copies
        beyond: Times = np.maximum(times - most, 0)
        return beyond

    @property
    def objects(self) -> int:
        """Objects read so far."""
        return len(self._seen)


def _first(which: Bools) -> list[int]:
    some: list[int] = np.flatnonzero(which)[:MOST].tolist()
    return some


def unpacked(key: str, body: bytes) -> bytes:
    """The content of an object: of GZIP by what it begins with, else as it is.

    Raises:
        zlib.error: it should be GZIP, by its name or its beginning, and is not.
    """
    if body.startswith(_GZIP_MAGIC) or key.endswith(".gz"):
        return gunzip(body)
    return body


def gunzip(body: bytes) -> bytes:
    """The content of one or more GZIP members.

    Raises:
        zlib.error: it is none, or ends too early.
    """
    parts: list[bytes] = []
    while body:
        member = zlib.decompressobj(_GZIP)
        parts.append(member.decompress(body))
        if not member.eof:
            raise zlib.error("the object ends within a GZIP member")
        body = member.unused_data
    return b"".join(parts)

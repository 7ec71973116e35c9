"""What landed in the S3 archive: every line of every object that the run's hours hold.

A line is compared as bytes, by its hash; one that is no payload of the run is looked into.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fleetcast.verify.exceptions import MOST, Exceptions
from fleetcast.verify.truth import ACKED, UNKNOWN, Bools, Ints, payload_hashes
from fleetcast.verify.verdict import Landed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.pipeline.model import Path
    from fleetcast.verify.truth import Truth
    from simulator.scenario import Scenario
    from stack.outputs import StackOutputs

OBJECTS_AT_ONCE = 8
# Object times are whole seconds, and clocks differ a little.
SLACK_S = 2
# By how much the simulator's clock may be off: beyond that, AWS refuses what it signs.
CLOCK_SLACK_S = 300
_DECODER = json.JSONDecoder()
_GZIP = 31
_GZIP_MAGIC = b"\x1f\x8b"
STORE = "archive"
Times = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where an archive lies, and how.

    Attributes:
        bucket: The bucket.
        prefix: What keys begin with; `%Y %m %d %H` are the hour in which records arrived, UTC.
        format: `lines`, or `json`: objects one after the other; or `parquet`.
        compression: `auto`, `gzip` or `none`.
    """

    bucket: str
    prefix: str
    format: Literal["lines", "json", "parquet"] = "lines"
    compression: Literal["auto", "gzip", "none"] = "auto"

    @classmethod
    def of_stack(cls, outputs: StackOutputs) -> ArchivePlace:
        """The archive of a stack of ours."""
        return cls(outputs.archive_bucket, f"{outputs.archive_prefix}%Y/%m/%d/%H/")

    def prefixes(self, first_ms: int, last_ms: int) -> list[str]:
        """The prefixes of what arrived from one time to another, epoch milliseconds."""
        hour = dt.datetime.fromtimestamp(first_ms / 1000, dt.UTC)
        hour = hour.replace(minute=0, second=0, microsecond=0)
        end = dt.datetime.fromtimestamp(last_ms / 1000, dt.UTC)
        found: dict[str, None] = {}
        while hour <= end:
            found[hour.strftime(self.prefix)] = None
            hour += dt.timedelta(hours=1)
        return list(found)

    def unpacked(self, key: str, body: bytes) -> bytes:
        """The content of an object; of Parquet, a line of JSON for each row.

        Raises:
            zlib.error: it should be GZIP, by its name, its beginning or what is said, and is not.
            ArrowInvalid: it should be Parquet, and is not.
        """
        if self.format == "parquet":
            rows = pq.read_table(io.BytesIO(body)).to_pylist()
            return b"\n".join(orjson.dumps(row, default=str) for row in rows)
        if self.compression == "none":
            return body
        return gunzip(body) if self.compression == "gzip" else unpacked(key, body)

    def pieces(self, content: bytes) -> list[bytes]:
        """The lines of an object's content, or its JSON objects; what is none ends at the next."""
        lines = [line for line in content.split(b"\n") if line.strip()]
        if self.format != "json":
            return lines
        return [piece for line in lines for piece in _json_pieces(line)]


class ArchiveReader:
    """Reads the archive of one run, object by object; may be asked again as more arrives.

    Args:
        client: An `s3` client.
        where: Which objects.
        truth: What was sent.
        deadline_ms: ArchivePlace written after it are late, epoch milliseconds.

    Attributes:
        deadline_ms: As above.
        since_ms: Objects written before it are none of the run's, epoch milliseconds: its start,
            or earlier where the stream's clock says so.
        written_s: When each reading's first object was written, epoch seconds, by number; 0 where
            it is in none.
        overtaken: Which readings stand in their object behind a later one of their device.
        foreign: Lines of other runs, or of nobody.
        unreadable: Keys of objects that are no GZIP or no Parquet, with the reason.
    """

    def __init__(self, client: Any, where: ArchivePlace, truth: Truth, deadline_ms: int) -> None:
        self._client = client
        self._where = where
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
        # How often each reading has to be there.
        self._required: Times = truth.acked_copies
        self._places = _places(truth.scenario)
        self._strange = Exceptions()
        self.foreign = 0
        self.unreadable: dict[str, str] = {}

    async def poll(self) -> None:
        """Reads the objects that are new."""
        fresh: list[tuple[int, str]] = []
        # By the target's clock the run may be elsewhere than by the simulator's.
        until_ms = self.deadline_ms + CLOCK_SLACK_S * 1000
        for prefix in self._where.prefixes(self.since_ms, until_ms):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._where.bucket, Prefix=prefix
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

    async def _get(self, key: str) -> bytes:
        answer = await self._client.get_object(Bucket=self._where.bucket, Key=key)
        body: bytes = await answer["Body"].read()
        return body

    def _take(self, key: str, written_s: int, body: bytes) -> None:
        try:
            content = self._where.unpacked(key, body)
        except (zlib.error, pa.ArrowInvalid) as error:
            self.unreadable[key] = str(error)
            return
        known = self._known(self._where.pieces(content))
        self._place(known[self._times[known] == 0], written_s)
        np.add.at(self._times, known, 1)

    def _known(self, lines: list[bytes]) -> Ints:
        """Which readings lie in lines as they were sent; counts the lines that are none."""
        found = self._truth.find(payload_hashes(lines))
        for index in np.flatnonzero(found < 0).tolist():
            self._look_into(lines[index])
        return found[found >= 0]

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
            k = self._meant(json.loads(line))
        except ValueError:
            k = -1
        if k >= 0 and self._truth.outcome[k] in (ACKED, UNKNOWN):
            self._is_corrupted(k, line)
        else:
            self._is_phantom(line)

    def _meant(self, value: Any) -> int:
        """Which reading a payload is about that is none as it was sent; -1 where that is not told."""
        for device, seq in self._places:
            try:
                k = self._truth.number(str(at_path(value, device)), int(at_path(value, seq)))
            except (ValueError, TypeError):
                continue
            if k >= 0:
                return k
        return -1

    def _is_corrupted(self, k: int, line: bytes) -> None:
        self._corrupted[k] = self._corrupted.get(k, 0) + 1
        self._strange.add(STORE, "corrupted", [k], line.decode(errors="replace"))

    def _is_phantom(self, line: bytes) -> None:
        self._phantom += 1
        self._strange.stranger(STORE, "", -1, line.decode(errors="replace"))

    def landed(self) -> Landed:
        """What was found so far."""
        sent = self._sent()
        times = self._times_there()
        there = (times > 0) & sent
        return Landed(
            unique=int(there.sum()),
            duplicated=int(self._beyond(times)[there].sum()),
            lost=int(np.maximum(self._required - times, 0).sum()),
            phantom=self._phantom + int(times[~sent].sum()),
            corrupted=sum(self._corrupted.values()),
            late=int((self._late() & sent).sum()),
        )

    def exceptions(self) -> Exceptions:
        """The readings that are behind `landed`."""
        sent, times = self._sent(), self._times_there()
        found = self._strange
        found.add(STORE, "lost", _first(self._required > times))
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
        """ArchivePlace read so far."""
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


def at_path(value: Any, path: Path) -> Any:
    """What lies at a path in a JSON value; None where nothing does."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _places(scenario: Scenario) -> list[tuple[Path, Path]]:
    """Where payloads have their device and seq, one pair for each shape that has both."""
    found: dict[tuple[Path, Path], None] = {}
    for kind in scenario.fleet.classes:
        if kind.template is None:
            found[("device",), ("seq",)] = None
            continue
        whole = kind.template.whole
        if "device" in whole and "seq" in whole:
            found[whole["device"], whole["seq"]] = None
    return list(found)


def _json_pieces(text: bytes) -> Iterator[bytes]:
    """JSON objects that follow one another, with or without spaces between them.

    What is broken ends where the next object begins that is whole.
    """
    # A character for each byte, so that places in the text are places in the bytes.
    line = text.decode("latin-1")
    at = 0
    while at < len(line):
        try:
            end = _DECODER.raw_decode(line, at)[1]
        except (ValueError, RecursionError):
            end = _next_object(line, at + 1)
        piece = text[at:end].strip()
        if piece:
            yield piece
        at = end
        while at < len(line) and line[at].isspace():
            at += 1


def _next_object(line: str, at: int) -> int:
    """Where the next JSON object begins that is whole; the text's end where there is none."""
    while (at := line.find("{", at)) >= 0:
        try:
            _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            at += 1
        else:
            return at
    return len(line)


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

"""What it costs to compare millions of readings with what landed, and whether one amiss is found.

    python benchmarks/reconcile.py 10000000

No run is driven: its ledger and its archive's objects are written from the scenario by a process
before the one that is measured, and what Timestream answers is summed up from the same. Then one
defect after the other is put into a landed data set of a million, a single reading each: it must be
found, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime as dt
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetcast.verify import timeseries
from fleetcast.verify.archive import ArchivePlace, ArchiveReader
from fleetcast.verify.timeseries import DeviceTotals, LandedRow
from fleetcast.verify.truth import ACKED, FAILED, UNKNOWN, Truth, checksums
from fleetcast.verify.verdict import Landed
from simulator import ledger
from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.scenario import RunInfo, Scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

KEY = b"benchmark"
RATE = 10_000
DEVICES = 10_000
OBJECT_LINES = 40_000
MOST_PLANTED = 1_000_000
HOUR_MS = 3_600_000


def scenario_of(readings: int) -> Scenario:
    """A fleet of two classes that sends as many readings."""
    signals = {
        "cold-chain": {
            "temperature": {"model": "normal", "mean": -4, "sigma": 3},
            "humidity": {"model": "uniform", "low": 40, "high": 60},
        },
        "meter": {"power": {"model": "uniform", "low": 0, "high": 900}},
    }
    return Scenario.model_validate(
        {
            "name": "reconcile",
            "seed": 5,
            "fleet": {
                "devices": DEVICES,
                "sites": 20,
                "classes": [{"name": n, "share": 0.5, "signals": s} for n, s in signals.items()],
            },
            "rate": [{"shape": "constant", "rate": RATE, "duration": readings / RATE}],
        }
    )


def prepare(folder: Path, readings: int) -> None:
    """Writes a run that was acknowledged in full, and its archive."""
    scenario = scenario_of(readings)
    start_ms = int(time.time() * 1000) - int(scenario.profile.duration_s * 1000)
    run = RunInfo("bench", start_ms, "local", "b", "kinesis", (0, DEVICES))
    scenario.save(folder / "scenario.yaml", run)
    parts, objects = folder / ledger.FOLDER, folder / "archive"
    parts.mkdir()
    objects.mkdir()
    fleet = Fleet(scenario, run)
    (parts / "released-0.jsonl").write_text(
        f'{{"slice": [0, {DEVICES}]}}\n{{"released": {fleet.total}}}\n'
    )
    devices, encoder = pa.array(list(fleet.device_ids)), Encoder(fleet, KEY)
    for number, block in enumerate(fleet.blocks()):
        n, at_ns = len(block), pa.array(block.ts_ms * 1_000_000)
        k = pa.array(block.k)
        shards = pa.array([f"shardId-{s:012d}" for s in range(10)])
        columns = [
            k, pa.repeat(run.id, n), devices.take(pa.array(block.device_index)),
            pa.array(block.seq), at_ns, at_ns, at_ns, pc.add(at_ns, 5_000_000),
            pa.array(np.ones(n, dtype=np.int32)), pa.repeat(ledger.ACKED, n), pa.repeat("", n),
            shards.take(pa.array(block.k % 10)), k.cast(pa.string()),
        ]  # fmt: skip
        pq.write_table(
            pa.table(columns, schema=ledger.SCHEMA),
            parts / f"part-{number:06d}.parquet",
            compression="zstd",
            write_page_checksum=True,
        )
        payloads = encoder.encode(block)
        for first in range(0, n, OBJECT_LINES):
            lines = b"".join(line + b"\n" for line in payloads[first : first + OBJECT_LINES])
            path = objects / f"{number:06d}-{first:06d}.gz"
            path.write_bytes(gzip.compress(lines, compresslevel=1))


class Objects:
    """The archive's objects in a folder, as an S3 client of `ArchiveReader` tells them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.changed: dict[str, bytes] = {}
        self.told = False

    def names(self) -> list[str]:
        """Names of all objects."""
        return sorted(path.name for path in self._folder.iterdir())

    def get_paginator(self, _: str) -> Objects:
        """Itself: there are pages of one operation alone."""
        return self

    async def paginate(self, *, Bucket: str, Prefix: str) -> AsyncIterator[dict[str, Any]]:  # noqa: ARG002, N803 - boto's names
        """One page of all; they lie in the first hour that is asked for."""
        if self.told:
            return
        self.told = True
        names = self.names()
        now = dt.datetime.now(dt.UTC)
        yield {"Contents": [{"Key": name, "LastModified": now} for name in names]}

    async def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803
        """An object, as it lies or as it was changed."""
        body = self.changed.get(Key)
        return {"Body": _Body((self._folder / Key).read_bytes() if body is None else body)}

    def lines(self, name: str) -> list[bytes]:
        """The lines of an object."""
        return gzip.decompress((self._folder / name).read_bytes()).splitlines()


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        """All of it."""
        return self._content


class LandedRows:
    """The rows of a run as Timestream would tell them, with those that were changed.

    `changed` is rows by their number; None where one is missing. `more` is rows beyond.
    """

    strangers = False

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._base: dict[int, list[int]] = {}
        self.changed: dict[int, LandedRow | None] = {}
        self.more: list[LandedRow] = []
        devices = truth.scenario.fleet.devices
        sums = np.zeros((4, devices), dtype=np.int64)
        sums[1] = np.iinfo(np.int64).max
        for block in truth.fleet.blocks():
            checksum = checksums(
                block.seq, block.ts_ms, [(block.values[n], d) for n, d in truth.signals()]
            )
            np.add.at(sums[0], block.device_index, 1)
            np.minimum.at(sums[1], block.device_index, block.seq)
            np.maximum.at(sums[2], block.device_index, block.seq)
            np.add.at(sums[3], block.device_index, checksum)
        self._sums = sums

    def _rows_of(self, devices: set[str]) -> list[LandedRow]:
        numbers = [n for n, name in enumerate(self._truth.fleet.device_ids) if name in devices]
        rows: list[LandedRow] = []
        for true in self._truth.rows(numbers):
            row = LandedRow(
                true.device, true.kind, true.site, true.seq, true.ts_ms, true.signals,
                extra=False, late=False,
            )  # fmt: skip
            landed = self.changed.get(true.k, row)
            rows += [] if landed is None else [landed]
        return rows + [row for row in self.more if row.device in devices]

    async def totals(self, signals: Sequence[tuple[str, int]]) -> list[DeviceTotals]:
        """Sums of devices; those with changed rows are summed up anew."""
        fleet = self._truth.fleet
        touched = {fleet.device_ids[int(self._truth.device_of[k])] for k in self.changed}
        touched |= {row.device for row in self.more}
        told = [
            DeviceTotals(
                name, fleet.class_name(n), fleet.site_name(n), *map(int, self._sums[:, n]), 0, 0
            )
            for n, name in enumerate(fleet.device_ids)
            if name not in touched
        ]
        groups: dict[tuple[str, str | None, str | None], list[LandedRow]] = {}
        for row in self._rows_of(touched):
            groups.setdefault((row.device, row.kind, row.site), []).append(row)
        for (name, kind, site), rows in groups.items():
            values = [
                (np.array([row.signals.get(signal, np.nan) for row in rows]), decimals)
                for signal, decimals in signals
            ]
            seq = np.array([row.seq for row in rows])
            checksum = checksums(seq, np.array([row.ts_ms for row in rows]), values)
            told.append(
                DeviceTotals(
                    name, kind, site, len(rows), int(seq.min()), int(seq.max()),
                    int(checksum.sum()), 0, sum(row.late for row in rows),
                )
            )  # fmt: skip
        return told

    async def rows(
        self, devices: Sequence[str], _: Sequence[tuple[str, int]]
    ) -> AsyncIterator[LandedRow]:
        """The rows of some devices."""
        for row in self._rows_of(set(devices)):
            yield row


async def compare(truth: Truth, rows: LandedRows, objects: Objects) -> tuple[Landed, Landed]:
    """(Timestream, archive) as the verifier finds them."""
    outputs: Any = argparse.Namespace(archive_bucket="b", archive_prefix="")
    objects.told = False
    archive = ArchiveReader(
        objects, ArchivePlace.of_stack(outputs), truth, int(time.time() * 1000) + HOUR_MS
    )
    await archive.poll()
    none = np.zeros(len(truth.outcome), dtype=np.bool_)
    reader: Any = rows
    return await timeseries.reconcile(truth, none, reader), archive.landed()


def measure(folder: Path) -> None:
    """Prints time and memory of one comparison."""
    began, cpu = time.perf_counter(), time.process_time()
    truth = Truth.of_run(folder, KEY)
    known = time.process_time() - cpu
    rows = LandedRows(truth)
    summed = time.process_time() - cpu - known
    found = asyncio.run(compare(truth, rows, Objects(folder / "archive")))
    spent = time.process_time() - cpu - summed
    total = len(truth.outcome)
    if found != (Landed(unique=total), Landed(unique=total)):
        raise SystemExit(f"everything landed, and was found to be {found}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| readings | CPU | of it truth and signatures | wall | most memory |")
    print("|---|---|---|---|---|")
    print(
        f"| {total:,} | {spent:.1f} s | {known:.1f} s | "
        f"{time.perf_counter() - began - summed:.1f} s | {memory:,.0f} MiB |"
    )


def defects(
    truth: Truth, rows: LandedRows, objects: Objects
) -> Iterator[tuple[str, dict[str, int], dict[str, int]]]:
    """Plants one after the other: (name, what Timestream must differ by, and the archive).

    Each is taken away again before the next.
    """
    k = len(truth.outcome) // 2 + 17
    (true,) = (row for row in truth.rows([int(truth.device_of[k])]) if row.k == k)
    row = LandedRow(
        true.device, true.kind, true.site, true.seq, true.ts_ms, true.signals,
        extra=False, late=False,
    )  # fmt: skip
    signal = next(iter(row.signals))
    off = {**row.signals, signal: round(row.signals[signal] + 0.01, 2)}
    for name, changed, expected in (
        ("row lost", None, {"unique": -1, "lost": 1}),
        ("row with a value off by its last decimal", {"signals": off}, {"corrupted": 1}),
        ("row a millisecond off", {"ts_ms": row.ts_ms + 1}, {"corrupted": 1}),
        ("row of another site", {"site": "elsewhere"}, {"corrupted": 1}),
        ("row late", {"late": True}, {"late": 1}),
    ):
        rows.changed = {k: None if changed is None else dataclasses.replace(row, **changed)}
        yield name, expected, {}
    rows.changed = {}
    rows.more = [row]
    yield "row doubled", {"duplicated": 1}, {}
    rows.more = [dataclasses.replace(row, seq=len(truth.outcome))]
    yield "row that was never sent", {"phantom": 1}, {}
    rows.more = []

    name = objects.names()[-1]
    lines = objects.lines(name)
    middle = len(lines) // 2
    for what, changed_lines, expected in (
        ("line lost", lines[:middle] + lines[middle + 1 :], {"unique": -1, "lost": 1}),
        ("line doubled", [*lines, lines[middle]], {"duplicated": 1}),
        ("line with a changed byte",
         [*lines[:middle], lines[middle].replace(b'"v":1', b'"v":2'), *lines[middle + 1 :]],
         {"corrupted": 1}),
        ("line that was never sent", [*lines, b'{"run":"bench","device":"x","seq":1}'],
         {"phantom": 1}),
    ):  # fmt: skip
        objects.changed = {name: gzip.compress(b"\n".join(changed_lines), compresslevel=1)}
        yield what, {}, expected
    objects.changed = {}

    truth.outcome[k], truth.acked_copies[k] = FAILED, 0
    phantom = {"unique": -1, "phantom": 1}
    yield "landed though it surely failed", phantom, phantom
    truth.outcome[k], truth.open_copies[k] = UNKNOWN, 1
    yield "unknown and landed: nothing amiss", {}, {}
    truth.outcome[k], truth.acked_copies[k], truth.open_copies[k] = ACKED, 1, 0


async def plant(folder: Path) -> int:
    """Plants each defect and prints what was found; returns how many were not, or not alone."""
    truth = Truth.of_run(folder, KEY)
    rows, objects = LandedRows(truth), Objects(folder / "archive")
    total, wrong = len(truth.outcome), 0
    print(f"One reading of {total:,} amiss.\n\n| planted | found |\n|---|---|")
    for name, series, archive in defects(truth, rows, objects):
        found = await compare(truth, rows, objects)
        wanted = tuple(
            Landed(
                **{**dataclasses.asdict(Landed()), **more, "unique": total + more.get("unique", 0)}
            )
            for more in (series, archive)
        )
        wrong += found != wanted
        verdict = "it, and nothing else" if found == wanted else f"{found}, not {wanted}"
        print(f"| {name} | {verdict} |", flush=True)
    return wrong


def main() -> None:
    """Prepares in one process, and measures in another; then the same with defects."""
    parser = argparse.ArgumentParser(description="What comparing readings with what landed costs.")
    parser.add_argument("readings", type=int, nargs="?", default=10_000_000)
    parser.add_argument("--work", choices=["measure", "plant"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work == "measure":
        measure(options.folder)
    elif options.work == "plant":
        sys.exit(asyncio.run(plant(options.folder)))
    else:
        for work, readings in (
            ("measure", options.readings), ("plant", min(options.readings, MOST_PLANTED))
        ):  # fmt: skip
            with tempfile.TemporaryDirectory() as name:
                prepare(Path(name), readings)
                words = [__file__, "--work", work, "--folder", name]
                subprocess.run([sys.executable, "-P", *words], check=True)
            print(flush=True)


if __name__ == "__main__":
    main()

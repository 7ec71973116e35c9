"""The ledger: every reading that was released, and what became of it.

Rows are written in Parquet parts while the run goes on. Before readings are released to the
transport, their number is appended to a journal; since readings are a function of the scenario,
what the journal counts and no part has can be told after a crash: it is `unknown`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetcast.errors import UsageError
from simulator.fleet import Fleet
from simulator.scenario import load_run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

log = logging.getLogger(__name__)

FOLDER = "ledger"
PART_ROWS = 20_000
ACKED, FAILED, UNKNOWN = "acked", "failed", "unknown"
SCHEMA = pa.schema(
    [
        ("k", pa.int64()),
        ("run", pa.string()),
        ("device", pa.string()),
        ("seq", pa.int64()),
        ("event_time_ns", pa.int64()),
        ("scheduled_ns", pa.int64()),
        ("sent_ns", pa.int64()),
        ("acked_ns", pa.int64()),
        ("attempts", pa.int32()),
        ("outcome", pa.string()),
        ("fault", pa.string()),
        ("shard", pa.string()),
        ("sequence_number", pa.string()),
    ]
)


@dataclass(slots=True)
class Row:
    """One reading's fate. Times are epoch nanoseconds; None where it did not come to that."""

    k: int
    device: str
    seq: int
    event_time_ns: int
    scheduled_ns: int
    fault: str = ""
    sent_ns: int | None = None
    acked_ns: int | None = None
    attempts: int = 0
    outcome: str = UNKNOWN
    shard: str | None = None
    sequence_number: str | None = None


class LedgerWriter:
    """Writes the ledger of one process's slice of the fleet; a context manager.

    Args:
        run_dir: The run's folder.
        run_id: The run's id.
        devices_slice: Devices [first, last) of this process; names its files.
    """

    def __init__(self, run_dir: Path, run_id: str, devices_slice: tuple[int, int]) -> None:
        self._folder = run_dir / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = run_id
        self._name = f"{devices_slice[0]:08d}-{devices_slice[1]:08d}"
        self._journal = (self._folder / f"released-{self._name}.jsonl").open("a")
        self._write_journal({"slice": list(devices_slice)})
        self._rows: list[Row] = []
        self._parts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def release(self, count: int) -> None:
        """Notes that the slice's first `count` readings are about to be sent."""
        self._write_journal({"released": count})

    def _write_journal(self, entry: dict[str, Any]) -> None:
        self._journal.write(json.dumps(entry) + "\n")
        self._journal.flush()

    def record(self, rows: Iterable[Row]) -> None:
        """Adds rows of readings whose fate is known."""
        self._rows.extend(rows)
        if len(self._rows) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what is buffered as a part of its own."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = pa.table(
            {
                name: pa.array([self._run] * len(rows))
                if name == "run"
                else pa.array([getattr(row, name) for row in rows], SCHEMA.field(name).type)
                for name in SCHEMA.names
            },
            schema=SCHEMA,
        )
        path = self._folder / f"part-{self._name}-{self._parts:06d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        temporary.replace(path)
        self._parts += 1

    def close(self) -> None:
        """Writes the rest."""
        self.flush()
        self._journal.close()


def read(run_dir: Path) -> pa.Table:
    """The whole ledger, columns as in `SCHEMA`; what was released and is in no part is `unknown`.

    Raises:
        UsageError: the folder has no ledger, or a part that is not readable.
    """
    folder = run_dir / FOLDER
    journals = sorted(folder.glob("released-*.jsonl"))
    if not journals:
        raise UsageError(f"no ledger in {run_dir}: was the run ever started?")
    tables = []
    for part in sorted(folder.glob("part-*.parquet")):
        try:
            table = pq.read_table(part, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{part} is no readable part of a ledger: {error}") from error
        # A column that is missing would be read as nulls.
        if table.schema != SCHEMA:
            raise UsageError(f"{part} is no readable part of a ledger: its columns are others")
        tables.append(table)
    known = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    for journal in journals:
        lost = _unknown_rows(run_dir, journal, known)
        if lost.num_rows:
            known = pa.concat_tables([known, lost])
    return known.sort_by("k")


def _unknown_rows(run_dir: Path, journal: Path, known: pa.Table) -> pa.Table:
    devices_slice, released = _read_journal(journal)
    scenario, run = load_run(run_dir)
    fleet = Fleet(scenario, replace(run, devices_slice=devices_slice))
    there = Counter(known.column("k").to_pylist())
    if released == 0:
        return SCHEMA.empty_table()
    rows: list[dict[str, Any]] = []
    for block in fleet.blocks(0, released):
        sends = [1] * len(block) if block.sends is None else block.sends.tolist()
        missing = [
            index
            for index, k in enumerate(block.k.tolist())
            for _ in range(sends[index] - there[k])
        ]
        delay_s = np.zeros(len(block)) if block.delay_s is None else block.delay_s
        for index in missing:
            fault = int(block.fault[index])
            rows.append(
                {
                    "k": int(block.k[index]),
                    "run": run.id,
                    "device": fleet.device_ids[int(block.device_index[index])],
                    "seq": int(block.seq[index]),
                    "event_time_ns": int(block.ts_ms[index]) * 1_000_000,
                    "scheduled_ns": scheduled_ns(
                        run.start_ms, float(block.scheduled_s[index] + delay_s[index])
                    ),
                    "attempts": 0,
                    "outcome": UNKNOWN,
                    "fault": scenario.faults[fault - 1].name if fault else "",
                }
            )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def scheduled_ns(start_ms: int, scheduled_s: float) -> int:
    """When a reading is due, epoch nanoseconds."""
    return start_ms * 1_000_000 + round(scheduled_s * 1e9)


def _read_journal(path: Path) -> tuple[tuple[int, int], int]:
    """(slice, readings released); a last line that was cut off is left out."""
    devices_slice = (0, 0)
    released = 0
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            log.warning("%s: a line is cut off, as after a crash", path)
            continue
        if "slice" in entry:
            devices_slice = (entry["slice"][0], entry["slice"][1])
        released = max(released, entry.get("released", 0))
    return devices_slice, released

"""The ledger: every reading that was released, and what became of it.

Rows are written in Parquet parts while the run goes on. Before readings are released to the
transport, their number is appended to a journal; since readings are a function of the scenario,
what the journal counts and no part has can be told after a crash: it is `unknown`.
"""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fleetcast.errors import TargetError, UsageError
from simulator.batch import batch_of, joined_rows
from simulator.fleet import Fleet
from simulator.scenario import load_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from simulator.batch import Batch, Rows
    from simulator.columns import Column
    from simulator.scenario import RunInfo, Scenario

log = logging.getLogger(__name__)

FOLDER = "ledger"
PART_ROWS = 20_000
# A part has a cost of its own: at high rates, parts are larger, up to so many rows.
PART_S, MOST_PART_ROWS = 0.2, 100_000
ACKED, FAILED, UNKNOWN = "acked", "failed", "unknown"
# In the order of the numbers that `simulator.batch` has for them.
OUTCOMES = (UNKNOWN, ACKED, FAILED)
_WORDS = pa.array(OUTCOMES)
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

# Numbers rise: what is stored is how they differ from the one before.
_ENCODINGS = dict.fromkeys(
    ["k", "seq", "event_time_ns", "scheduled_ns", "sent_ns", "acked_ns"], "DELTA_BINARY_PACKED"
)


class LedgerWriter:
    """Writes the ledger of one process's slice of the fleet; a context manager.

    Args:
        run_dir: The run's folder.
        fleet: Whose readings; its run's slice of the devices names the files.
    """

    def __init__(self, run_dir: Path, fleet: Fleet) -> None:
        self._folder = run_dir / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fleet = fleet
        first, last = fleet.run.devices_slice
        self._name = f"{first:08d}-{last:08d}"
        self._journal = (self._folder / f"released-{self._name}.jsonl").open("ab")
        self._write_journal({"slice": [first, last]})
        self._batches: list[Batch] = []
        self._waiting = 0
        self._parts = 0
        self._last_part_s = -PART_S
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._writing: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def release(self, count: int, until_ns: int | None = None) -> None:
        """Notes that the slice's first `count` readings are about to be sent.

        Args:
            count: How many.
            until_ns: Of these, the ones that are due later are held back; None is that none is.
        """
        entry = {"released": count}
        if until_ns is not None:
            entry["until_ns"] = until_ns
        self._write_journal(entry)

    def _write_journal(self, entry: dict[str, Any]) -> None:
        self._journal.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self._journal.flush()

    def record(self, batch: Batch) -> None:
        """Adds readings whose fate is known. Full parts are written while the run goes on."""
        self._batches.append(batch)
        self._waiting += len(batch)
        if self._waiting >= MOST_PART_ROWS or (
            self._waiting >= PART_ROWS and time.monotonic() - self._last_part_s >= PART_S
        ):
            self._begin_part()

    def flush(self) -> None:
        """Writes what is buffered as a part of its own, and waits for all that is being written.

        Raises:
            TargetError: a part could not be written.
        """
        self._begin_part()
        writing, self._writing = self._writing, []
        try:
            for part in writing:
                part.result()
        except OSError as error:
            raise TargetError(
                f"the ledger in {self._folder} cannot be written: {error}; what it has no row of "
                "is unknown"
            ) from error

    def _begin_part(self) -> None:
        if not self._waiting:
            return
        batches, self._batches, self._waiting = self._batches, [], 0
        path = self._folder / f"part-{self._name}-{self._parts:06d}.parquet"
        self._parts += 1
        self._last_part_s = time.monotonic()
        # A part takes as long as several ticks of the schedule, which must not wait for it.
        self._writing = [part for part in self._writing if not part.done() or part.exception()]
        self._writing.append(self._writer.submit(self._write_part, batches, path))

    def _write_part(self, batches: list[Batch], path: Path) -> None:
        temporary = path.with_suffix(".tmp")
        table = _table(self._fleet, batches)
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            # Twice as fast as 1 where it matters, names of devices, for two bytes a row.
            compression_level=-5,
            use_dictionary=[f.name for f in table.schema if pa.types.is_dictionary(f.type)],
            column_encoding=_ENCODINGS,
            write_page_checksum=True,
            # As plain strings, however they are held here; statistics for what is looked for.
            store_schema=False,
            write_statistics=["k"],
        )
        temporary.replace(path)

    def close(self) -> None:
        """Writes the rest."""
        try:
            self.flush()
        finally:
            self._writer.shutdown()
            self._journal.close()


def _table(fleet: Fleet, batches: Sequence[Batch]) -> pa.Table:
    """Readings as rows of the ledger; what is the same in many, as numbers of its words."""
    rows = joined_rows(batches)
    faults = pa.array(["", *(fault.name for fault in fleet.scenario.faults)])
    columns = {
        "k": _column(rows, "k"),
        "run": _words(np.zeros(len(rows), dtype=np.int8), pa.array([fleet.run.id])),
        "device": fleet.names_of(np.ascontiguousarray(rows["device"])),
        "seq": _column(rows, "seq"),
        "event_time_ns": pa.array(rows["ts_ms"] * 1_000_000),
        "scheduled_ns": _column(rows, "scheduled_ns"),
        "sent_ns": _time(rows, "sent_ns"),
        "acked_ns": _time(rows, "acked_ns"),
        "attempts": _column(rows, "attempts"),
        "outcome": _words(rows["outcome"].astype(np.int8), _WORDS),
        "fault": _words(rows["fault"].astype(np.int16), faults),
        "shard": _landed([(batch.shards, len(batch)) for batch in batches]),
        "sequence_number": _landed([(batch.sequence_numbers, len(batch)) for batch in batches]),
    }
    return pa.table(columns)


def _column(rows: Rows, name: str) -> pa.Array:
    return pa.array(np.ascontiguousarray(rows[name]))


def _words(numbers: NDArray[Any], words: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers), words)


def _time(rows: Rows, name: str) -> pa.Array:
    times = np.ascontiguousarray(rows[name])
    return pa.array(times, mask=times == 0)


def _landed(columns: Sequence[tuple[Column[str | None] | None, int]]) -> pa.ChunkedArray:
    """What targets told of where readings landed: strings, or their numbers in one dictionary."""
    kinds = {column.array.type for column, _ in columns if column is not None}
    kind = kinds.pop() if len(kinds) == 1 else pa.string()
    chunks = [
        pa.nulls(count, kind) if column is None else column.array.cast(kind)
        for column, count in columns
    ]
    return pa.chunked_array(chunks, kind).unify_dictionaries()


def read(run_dir: Path) -> pa.Table:
    """The whole ledger, columns as in `SCHEMA`; what was released and is in no part is `unknown`.

    Raises:
        UsageError: the folder has no ledger, or a part that is not readable.
    """
    found = list(tables(run_dir))
    return pa.concat_tables(found).sort_by("k") if found else SCHEMA.empty_table()


def tables(run_dir: Path, columns: Sequence[str] = tuple(SCHEMA.names)) -> Iterator[pa.Table]:
    """The ledger in pieces, as its parts lie; last what was released and is in no part.

    Args:
        run_dir: The run's folder.
        columns: Those that are wanted, `k` among them.

    Raises:
        UsageError: the folder has no ledger, or a part that is not readable.
    """
    folder = run_dir / FOLDER
    journals = sorted(folder.glob("released-*.jsonl"))
    if not journals:
        raise UsageError(f"no ledger in {run_dir}: was the run ever started?")
    scenario, run = load_run(run_dir)
    told = np.zeros(scenario.profile.total, dtype=np.int16)
    for part in sorted(folder.glob("part-*.parquet")):
        try:
            with pq.ParquetFile(part, page_checksum_verification=True) as file:
                schema = file.schema_arrow
                table = file.read(columns=list(columns)) if schema == SCHEMA else None
        # ValueError: of names that are no text any more.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UsageError(f"{part} is no readable part of a ledger: {error}") from error
        # A column that is missing would be read as nulls.
        if table is None:
            raise UsageError(f"{part} is no readable part of a ledger: its columns are others")
        numbers = table.column("k").to_numpy()
        # Numbers that the scenario does not have are for the reader to complain of.
        np.add.at(told, numbers[(numbers >= 0) & (numbers < len(told))], 1)
        yield table
    for journal in journals:
        lost = _unknown_rows(scenario, run, journal, told)
        if lost.num_rows:
            yield lost.select(list(columns))


def slices(run_dir: Path) -> list[tuple[int, int]]:
    """Devices [first, last) of each process that drove a part of the fleet, in order."""
    journals = (run_dir / FOLDER).glob("released-*.jsonl")
    return sorted({_read_journal(journal)[0] for journal in journals})


def _unknown_rows(
    scenario: Scenario, run: RunInfo, journal: Path, told: NDArray[np.int16]
) -> pa.Table:
    devices_slice, released, until_ns = _read_journal(journal)
    if released == 0:
        return SCHEMA.empty_table()
    fleet = Fleet(scenario, replace(run, devices_slice=devices_slice))
    lost = []
    for block in fleet.blocks(0, released):
        batch = batch_of(fleet, block, [b""] * len(block))
        rows = batch.rows
        # What its device never sends, or was held back at the end, was not released.
        missing = rows["sends"] - told[rows["k"]]
        if until_ns is not None:
            missing[rows["scheduled_ns"] > until_ns] = 0
        if (missing > 0).any():
            lost.append(batch.take(np.repeat(np.arange(len(block)), np.maximum(missing, 0))))
    if not lost:
        return SCHEMA.empty_table()
    return _table(fleet, lost).cast(SCHEMA)


def _read_journal(path: Path) -> tuple[tuple[int, int], int, int | None]:
    """(slice, readings released, those due by); a last line that was cut off is left out."""
    devices_slice = (0, 0)
    released, until_ns = 0, None
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            log.warning("%s: a line is cut off, as after a crash", path)
            continue
        if "slice" in entry:
            devices_slice = (entry["slice"][0], entry["slice"][1])
        released = max(released, entry.get("released", 0))
        until_ns = entry.get("until_ns", until_ns)
    return devices_slice, released, until_ns

"""When readings landed: how long that took, in which order they came, and whose clock was off.

Everything is of whole devices; of a run with more than `MOST` readings, of every n-th of them. The
times come from three clocks: the simulator's (due, sent, acknowledged), the stream's (arrived) and
those of the function and of S3. The first two are compared through readings that both have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetcast.errors import UsageError
from fleetcast.verify.quantiles import Floats, by_group, named
from fleetcast.verify.verdict import Clock, Order, SlowDevice
from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetcast.verify.archive import ArchiveReader
    from fleetcast.verify.history import Bools, Ints
    from fleetcast.verify.timeseries import TimeSeriesReader
    from fleetcast.verify.truth import Truth

FILE_NAME = "landings.parquet"
MOST = 500_000
SLOWEST = 10
# Kinesis promises nothing of how exact the time of arrival is, so less than this is no difference.
CLOCK_TOLERANCE_MS = 50.0
_LEDGER = ("k", "event_time_ns", "scheduled_ns", "sent_ns", "acked_ns", "outcome", "shard",
           "sequence_number")  # fmt: skip
# Longer than any sequence number: with zeros before them, their texts are ordered as they are.
_DIGITS = 130
# Readings' times in what is kept for the report and for comparisons, in milliseconds.
KEPT = ("row_from_event", "row_from_ack", "object_from_event", "object_from_ack")


@dataclass(frozen=True, slots=True)
class Landings:
    """Acknowledged readings and their times; arrays of shape (n,), by rising k.

    Times are milliseconds from the run's start, NaN where there is none.

    Attributes:
        k: Numbers of the readings.
        device: Numbers of their devices.
        seq: Numbers within the devices.
        event: The reading's own timestamp.
        due: When the schedule had it.
        sent: When it was first sent.
        acked: When it was acknowledged.
        arrived: When the stream says that it arrived.
        row: When the function wrote its row.
        object: Until when its object was written: S3 tells whole seconds, this is their end.
        overtaken: Whether a line before its own, in the same object, is of its device and later.
        shard: Index into `shards`; -1 where none is known.
        shards: Their names.
        place: Rises with the sequence number; -1 where none is known.
    """

    k: Ints
    device: Ints
    seq: Ints
    event: Floats
    due: Floats
    sent: Floats
    acked: Floats
    arrived: Floats
    row: Floats
    object: Floats
    overtaken: Bools
    shard: Ints
    shards: list[str]
    place: Ints

    def __len__(self) -> int:
        return len(self.k)


async def gather(
    run_dir: Path,
    truth: Truth,
    series: TimeSeriesReader | None,
    archive: ArchiveReader | None,
) -> Landings:
    """The times of a run's readings, from its ledger, its rows and its objects, where there are any.

    Raises:
        UsageError: the ledger is not readable.
    """
    step = max(1, -(-len(truth.history) // MOST))
    table = _acknowledged(run_dir, truth, step)
    numbers: Ints = table.column("k").to_numpy()
    devices = None if step == 1 else list(truth.fleet.device_ids)[::step]
    arrived, row = (np.full(len(numbers), np.nan) for _ in range(2))
    told = []
    if series is not None:
        kept = truth.asked.series
        told = [
            (truth.landed_number(device, seq, kept), arrived_ms, row_ms)
            async for device, seq, arrived_ms, row_ms in series.times(devices)
        ]
    if told and len(numbers):
        found, *times = (np.array(column, dtype=np.float64) for column in zip(*told, strict=True))
        at = np.minimum(np.searchsorted(numbers, found), len(numbers) - 1)
        mine = numbers[at] == found
        for column, values in zip((arrived, row), times, strict=True):
            column[at[mine]] = values[mine] - truth.run.start_ms
    start_ns = truth.run.start_ms * 1_000_000
    event, due, sent, acked = (
        pc.subtract(table.column(name), start_ns).to_numpy().astype(np.float64) / 1e6
        for name in ("event_time_ns", "scheduled_ns", "sent_ns", "acked_ns")
    )
    written_s = np.zeros(len(numbers))
    overtaken = np.zeros(len(numbers), dtype=np.bool_)
    if archive is not None:
        written_s = archive.written_s[numbers].astype(np.float64)
        overtaken = archive.overtaken[numbers]
    shards = pc.unique(pc.drop_null(table.column("shard"))).to_pylist()
    shard = pc.fill_null(pc.index_in(table.column("shard"), pa.array(shards, pa.string())), -1)
    return Landings(
        k=numbers,
        device=truth.fleet.devices_in_turn(numbers),
        seq=numbers // truth.scenario.fleet.devices,
        event=event,
        due=due,
        sent=sent,
        acked=acked,
        arrived=arrived,
        row=row,
        object=np.where(written_s > 0, (written_s + 1) * 1000 - truth.run.start_ms, np.nan),
        overtaken=overtaken,
        shard=shard.to_numpy().astype(np.int64),
        shards=shards,
        place=_places(table.column("sequence_number")),
    )


def _acknowledged(run_dir: Path, truth: Truth, step: int) -> pa.Table:
    """Rows of the ledger that were acknowledged, of every `step`-th device; of copies the first."""
    some = [ledger.SCHEMA.empty_table().select(list(_LEDGER))]
    for part in ledger.tables(run_dir, _LEDGER):
        acked = pc.equal(part.column("outcome"), ledger.ACKED)
        table = part.filter(acked)
        if step > 1:
            device = truth.fleet.devices_in_turn(table.column("k").to_numpy())
            table = table.filter(pa.array(device % step == 0))
        some.append(table)
    table = pa.concat_tables(some).sort_by([("k", "ascending"), ("acked_ns", "ascending")])
    _, first = np.unique(table.column("k").to_numpy(), return_index=True)
    return table.take(pa.array(first))


def _places(numbers: pa.ChunkedArray) -> Ints:
    """A whole number for each sequence number, which rises as it does; -1 for none."""
    texts = pc.utf8_lpad(numbers, _DIGITS, "0")
    ranks = pc.rank(texts, sort_keys="ascending", tiebreaker="dense").to_numpy()
    places: Ints = np.where(pc.is_valid(numbers).to_numpy(), ranks, -1).astype(np.int64)
    return places


def latencies(
    landings: Landings, clocks: Sequence[Clock]
) -> dict[str, dict[str, dict[str, float]]]:
    """Percentiles, milliseconds, by store and by what they count from: `from_event`, `from_ack`."""
    spans = _spans(landings, clocks)
    return {
        store: {
            since: found
            for since in ("from_event", "from_ack")
            if (found := named(spans[f"{kept}_{since}"]))
        }
        for store, kept in (("timeseries", "row"), ("archive", "object"))
    }


def _spans(landings: Landings, clocks: Sequence[Clock]) -> dict[str, Floats]:
    """How long each reading took, by `KEPT`; the simulator's times are put on the stream's clock."""
    offset = offsets(landings.device, clocks)
    return {
        f"{kept}_{since}": until - (begun + offset)
        for kept, until in (("row", landings.row), ("object", landings.object))
        for since, begun in (("from_event", landings.event), ("from_ack", landings.acked))
    }


def slowest(
    landings: Landings, clocks: Sequence[Clock], names: Sequence[str], most: int = SLOWEST
) -> list[SlowDevice]:
    """The devices whose readings took longest from when they were due until their rows, by p95.

    Args:
        landings: Of the run.
        clocks: As `clocks` tells.
        names: Of the devices, by their numbers.
        most: How many to name.
    """
    offset = offsets(landings.device, clocks)
    due = landings.due + offset
    chosen, group = np.unique(landings.device, return_inverse=True)

    def percentile(until: Floats, share: float) -> Floats:
        return by_group(until - due, group, len(chosen), share)

    row = percentile(landings.row, 0.95)
    columns = (
        percentile(landings.acked + offset, 0.95), row, percentile(landings.row, 1.0),
        percentile(landings.object, 0.95),
    )  # fmt: skip
    readings = np.bincount(group, minlength=len(chosen))
    last_shard = np.full(len(chosen), -1, dtype=np.int64)
    last_shard[group] = landings.shard
    order = np.lexsort((chosen, -np.nan_to_num(row, nan=-np.inf)))
    return [
        SlowDevice(
            names[int(chosen[at])],
            int(readings[at]),
            landings.shards[last_shard[at]] if last_shard[at] >= 0 else None,
            *(None if np.isnan(column[at]) else round(float(column[at]), 3) for column in columns),
        )
        for at in order[:most].tolist()
        if np.isfinite(row[at])
    ]


def orders(landings: Landings) -> dict[str, Order]:
    """How many readings came after a later one of their device, by where; see `out_of_order`.

    `sent` is from the ledger. `stream` goes by sequence numbers, within a shard. `timeseries` goes
    by when rows were written, to the millisecond. `archive` goes by lines within an object, and by
    objects of different seconds. What is not known is left out.
    """
    device, seq = landings.device, landings.seq
    in_shard = device * (len(landings.shards) + 1) + landings.shard + 1
    found = {}
    for name, group, place, there, known in (
        ("sent", device, landings.sent, np.isfinite(landings.sent), None),
        ("stream", in_shard, landings.place.astype(np.float64), landings.place >= 0, None),
        ("timeseries", device, landings.row, np.isfinite(landings.row), None),
        ("archive", device, landings.object, np.isfinite(landings.object), landings.overtaken),
    ):
        if not there.any():
            continue
        late = out_of_order(group[there], seq[there], place[there])
        if known is not None:
            late |= known[there]
        found[name] = Order(int(there.sum()), int(late.sum()), len(np.unique(device[there][late])))
    return found


def out_of_order(group: Ints, seq: Ints, place: Floats) -> Bools:
    """Which readings came after one of their group with a higher seq, as RFC 4737 counts them.

    A reading that comes too late is counted once, and not all those that passed it.

    Args:
        group: Shape (n,).
        seq: Numbers within the group, shape (n,).
        place: When, or where, each came, shape (n,); of two at one place neither is first.
    """
    _, groups = np.unique(group, return_inverse=True)
    _, places = np.unique(place, return_inverse=True)
    order = np.lexsort((seq, groups))
    # Groups lie one after the other: a higher group's places are all above a lower one's.
    key = (groups * (int(places.max(initial=0)) + 1) + places)[order]
    earliest_after = np.minimum.accumulate(key[::-1])[::-1]
    late = np.zeros(len(seq), dtype=np.bool_)
    late[order[:-1]] = key[:-1] > earliest_after[1:]
    return late


def clocks(
    landings: Landings, slices: Iterable[tuple[int, int]], *, acked_after: bool
) -> list[Clock]:
    """How far the stream's clock is ahead of that of each process of the simulator.

    A reading arrives after it was sent and before it is acknowledged. By both clocks that bounds
    how they differ, as NTP does it. A hundredth of the readings on either side is left out, since
    arrivals are told approximately.

    Args:
        landings: Of the run.
        slices: Devices [first, last) of each process.
        acked_after: Whether an acknowledgement comes after the arrival in the stream. By MQTT it
            comes from the broker, and bounds nothing.
    """
    found = []
    for first, last in slices:
        mine = (landings.device >= first) & (landings.device < last) & np.isfinite(landings.arrived)
        count = int(mine.sum())
        if not count:
            continue
        arrived = landings.arrived[mine]
        high = round(float(np.quantile(arrived - landings.sent[mine], 0.01)), 3)
        low = None
        if acked_after:
            low = round(float(np.quantile(arrived - landings.acked[mine], 0.99)), 3)
        found.append(Clock(first, last, count, low, high, _correction(low, high)))
    return found


def _correction(low: float | None, high: float) -> float:
    """By how much a clock is surely off, as far as that can be told; 0 where it need not be."""
    if high < -CLOCK_TOLERANCE_MS or (low is not None and low > CLOCK_TOLERANCE_MS):
        return round(high if low is None else (low + high) / 2, 3)
    return 0.0


def offsets(device: Ints, clocks: Sequence[Clock]) -> Floats:
    """What the simulator's times of some devices' readings are corrected by, milliseconds."""
    offset = np.zeros(len(device))
    for clock in clocks:
        mine = (device >= clock.first_device) & (device < clock.last_device)
        offset[mine] = clock.corrected_ms
    return offset


def save(run_dir: Path, landings: Landings, clocks: Sequence[Clock]) -> None:
    """Keeps how long each reading took, for the report and for comparisons."""
    columns: dict[str, NDArray[np.generic]] = {"k": landings.k, "at_s": landings.due / 1000}
    for name, values in _spans(landings, clocks).items():
        columns[name] = values.astype(np.float32)
    path = run_dir / FILE_NAME
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.table(columns), temporary, compression="zstd")
    temporary.replace(path)


def read(run_dir: Path) -> dict[str, Floats]:
    """What `save` kept: `k`, `at_s` (due, seconds from the start) and `KEPT`, milliseconds.

    Empty of a run that was verified before any was kept.

    Raises:
        UsageError: it is not readable.
    """
    path = run_dir / FILE_NAME
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path, columns=["k", "at_s", *KEPT])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is not readable ({error}): verify the run again") from error
    return {name: table.column(name).to_numpy().astype(np.float64) for name in table.column_names}

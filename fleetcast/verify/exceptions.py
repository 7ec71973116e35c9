"""The readings behind a verdict's numbers: which were lost, doubled, phantom, corrupted or late.

Of each kind in each store some are named, the first that are found; how many there are in all, the
verdict counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fleetcast.verify.truth import Truth

FILE_NAME = "exceptions.jsonl"
# Of each kind in each store.
MOST = 100
MAX_FOUND = 500
Kind = Literal["lost", "duplicated", "phantom", "corrupted", "late"]
_LEDGER = ("k", "outcome", "fault", "shard", "sequence_number")


@dataclass(frozen=True, slots=True)
class Amiss:
    """One reading that is not as it should be.

    Attributes:
        store: `timeseries` or `archive`.
        kind: What is wrong.
        device: Its device, as far as it can be told.
        seq: Its number within the device; -1 where it cannot be told.
        found: What lies in the store, shortened; empty where nothing does.
        ts_ms: Its timestamp as it was sent, epoch milliseconds; None where it is none of the run's.
        sent: Its signals as they were sent.
        outcome: What the ledger says of it.
        fault: The fault that was on it.
        shard: Where Kinesis put it.
        sequence_number: As what.
    """

    store: str
    kind: Kind
    device: str
    seq: int
    found: str
    ts_ms: int | None = None
    sent: dict[str, float] | None = None
    outcome: str | None = None
    fault: str | None = None
    shard: str | None = None
    sequence_number: str | None = None


class Exceptions:
    """Collects readings by number, and strangers by what they say of themselves.

    Attributes:
        unknown_rows: Readings of unknown outcome that have a row: nothing is amiss with them.
    """

    def __init__(self) -> None:
        self.unknown_rows: set[int] = set()
        self._known: dict[tuple[str, Kind], dict[int, str]] = {}
        self._strange: list[Amiss] = []

    def add(self, store: str, kind: Kind, numbers: Iterable[int], found: str = "") -> None:
        """Adds readings of the run by their numbers, as long as there are few."""
        kept = self._known.setdefault((store, kind), {})
        for k in numbers:
            if len(kept) >= MOST:
                return
            kept.setdefault(k, found[:MAX_FOUND])

    def stranger(self, store: str, device: str, seq: int, found: str) -> None:
        """Adds a phantom that is no reading of the run's schedule."""
        if len(self._strange) < MOST:
            self._strange.append(Amiss(store, "phantom", device, seq, found[:MAX_FOUND]))

    def resolved(self, truth: Truth, run_dir: Path) -> list[Amiss]:
        """All of them, with what was sent and what the ledger says."""
        numbers = {k for kept in self._known.values() for k in kept}
        rows = _sent(truth, numbers)
        told = _told(run_dir, numbers) if numbers else {}
        found = []
        for (store, kind), kept in sorted(self._known.items()):
            for k, text in sorted(kept.items()):
                turn = truth.fleet.devices_in_turn(np.array([k], dtype=np.int64))
                device = truth.fleet.device_ids[int(turn[0])]
                seq = k // truth.scenario.fleet.devices
                more = {**rows.get(k, {}), **told.get(k, {})}
                found.append(Amiss(store, kind, device, seq, text, **more))
        return found + self._strange


def save(run_dir: Path, found: Iterable[Amiss]) -> None:
    """Writes exceptions.jsonl, whole or not at all."""
    path = run_dir / FILE_NAME
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    temporary.replace(path)


def read(run_dir: Path) -> list[Amiss]:
    """What the last verification of a run wrote; nothing where it wrote none."""
    path = run_dir / FILE_NAME
    if not path.exists():
        return []
    return [Amiss(**json.loads(line)) for line in path.read_text().splitlines()]


def _sent(truth: Truth, numbers: set[int]) -> dict[int, dict[str, Any]]:
    if not numbers:
        return {}
    ks = np.array(sorted(numbers), dtype=np.int64)
    devices = set(truth.fleet.devices_in_turn(ks).tolist())
    return {
        row.k: {"ts_ms": row.ts_ms, "sent": row.signals}
        for row in truth.rows(devices)
        if row.k in numbers
    }


def _told(run_dir: Path, numbers: set[int]) -> dict[int, dict[str, Any]]:
    """What the ledger says of some readings; of copies, the last."""
    wanted = pa.array(sorted(numbers), pa.int64())
    told: dict[int, dict[str, Any]] = {}
    for table in ledger.tables(run_dir, _LEDGER):
        for row in table.filter(pc.is_in(table.column("k"), wanted)).to_pylist():
            told[row.pop("k")] = row
    return told

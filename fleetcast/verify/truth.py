"""What was sent: every reading of a run, generated again from its seed, with what the ledger says.

Readings are told by their number k in the fleet: device and seq follow from it. All arrays here
are indexed by k.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetcast.errors import UsageError
from fleetcast.verify.compared import STACK
from fleetcast.verify.history import ACKED, FAILED, NOT_SENT, UNKNOWN, Bools, History, Ints
from simulator.codec import Encoder
from simulator.faults import REASONS
from simulator.fleet import Fleet
from simulator.scenario import load_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetcast.verify.compared import Asked, Compared
    from simulator.fleet import Block
    from simulator.scenario import RunInfo, Scenario

__all__ = ["ACKED", "FAILED", "NOT_SENT", "UNKNOWN", "Bools", "Ints", "TrueRow", "Truth"]

# Payloads longer than this the processor tells in quarantine by their hash alone.
TOLD_BY_HASH = 150_000

# Of the checksum; see `checksums`.
MODULUS = 1_000_003
SEQ_MODULUS = 997
# Milliseconds around a run's start in which timestamps can be: 17 years.
_SPAN = 2**39


@dataclass(frozen=True, slots=True)
class TrueRow:
    """What a landed reading must look like. `signals` by name, rounded as they were sent."""

    k: int
    device: str
    kind: str
    site: str
    seq: int
    ts_ms: int
    signals: dict[str, float]


class Truth:
    """The readings of one run.

    Args:
        scenario: What was driven.
        run: Which run.
        history: Its ledger.
        key: The signing key, for the payloads; None where they are not signed.
        asked: What can be asked of them where they land.

    Attributes:
        sends: How often each reading is sent.
        outcome: NOT_SENT, ACKED, FAILED or UNKNOWN; of several copies the best known.
        acked_copies: How many copies were acknowledged.
        open_copies: How many are of unknown outcome.
        refusal: Reason that a reading must be refused with, an index into `reasons`; 0 is none.
        reasons: Reasons; the first is empty.
        checksum: Checksum of the reading's content in the time series, see `checksums`.
        fields_checksum: The same in an archive of lines of its own; empty where there is none.
        ts_ms: Timestamps, epoch milliseconds; empty where readings are told by their seq.
        last_acked_ms: When the last acknowledgement came, epoch milliseconds.

    Raises:
        UsageError: the ledger is not one of this scenario.
    """

    def __init__(
        self,
        scenario: Scenario,
        run: RunInfo,
        history: History,
        key: bytes | None,
        asked: Asked = STACK,
    ) -> None:
        self.scenario = scenario
        self.asked = asked
        self.run = run
        self.history = history
        whole = (0, scenario.fleet.devices)
        self.fleet = Fleet(
            scenario, replace(run, devices_slice=whole), shapes_refused=asked.refuses is None
        )
        total = self.fleet.total
        numbers = _numbers(history, total, scenario)
        copies = {
            outcome: np.bincount(numbers[history.outcome == outcome], minlength=total).astype(
                np.int16
            )
            for outcome in (ACKED, FAILED, UNKNOWN)
        }
        self.acked_copies: NDArray[np.int16] = copies[ACKED]
        self.open_copies: NDArray[np.int16] = copies[UNKNOWN]
        self.outcome: NDArray[np.uint8] = np.zeros(total, dtype=np.uint8)
        for outcome in (FAILED, UNKNOWN, ACKED):
            self.outcome[copies[outcome] > 0] = outcome
        self.sends: NDArray[np.int8] = np.ones(total, dtype=np.int8)
        self._released = int(numbers.max()) + 1 if len(numbers) else 0
        acked_ns = int(history.acked_ns.max()) if len(history) else 0
        self.last_acked_ms = (acked_ns or run.start_ms * 1_000_000) // 1_000_000
        self.reasons = REASONS
        self._refuses = np.array(
            [asked.refuses is None or reason in asked.refuses for reason in REASONS]
        )
        self.refusal: NDArray[np.uint8] = np.zeros(total, dtype=np.uint8)
        self.checksum: Ints = np.zeros(total, dtype=np.int64)
        self.fields_checksum: Ints = np.zeros(total if asked.fields else 0, dtype=np.int64)
        by_time = asked.series.by_time or (asked.fields is not None and asked.fields.by_time)
        self.ts_ms: Ints = np.zeros(total if by_time else 0, dtype=np.int64)
        payload = np.zeros(self._released, dtype=np.int64)
        self._by_sha256: dict[str, int] = {}
        self._delay_s: dict[int, float] = {}
        self._in_time: dict[int, tuple[Ints, Ints]] = {}
        encoder = Encoder(self.fleet, key)
        for block in self.fleet.blocks(0, self._released):
            self._learn(block, encoder.encode(block).tolist(), payload)
        if self._released < total:
            for block in self.fleet.blocks(self._released):
                if block.sends is not None:
                    self.sends[block.k] = block.sends
        _refuse_copies(sum(copies.values()), self.sends, scenario)
        self._by_payload: NDArray[np.int32] = np.argsort(payload, kind="stable").astype(np.int32)
        self._payloads_in_order = payload[self._by_payload]

    @classmethod
    def of_run(cls, run_dir: Path, key: bytes | None, asked: Asked = STACK) -> Truth:
        """The truth of a run in its folder.

        Raises:
            UsageError: the folder holds no run, or no ledger of it.
        """
        scenario, run = load_run(run_dir)
        return cls(scenario, run, History.of_run(run_dir), key, asked)

    def _learn(self, block: Block, payloads: list[bytes], hashes: Ints) -> None:
        k = block.k
        hashes[k] = payload_hashes(payloads)
        self.checksum[k] = self._checksums(block, self.asked.series)
        if self.asked.fields is not None:
            self.fields_checksum[k] = self._checksums(block, self.asked.fields)
        if len(self.ts_ms):
            self.ts_ms[k] = block.ts_ms
        if block.refusal is not None:
            self.refusal[k] = block.refusal
        if block.sends is not None:
            self.sends[k] = block.sends
        if block.delay_s is not None:
            held = np.flatnonzero(block.delay_s)
            self._delay_s.update(zip(k[held].tolist(), block.delay_s[held].tolist(), strict=True))
        for index, payload in enumerate(payloads):
            if len(payload) > TOLD_BY_HASH:
                self._by_sha256[hashlib.sha256(payload).hexdigest()] = int(k[index])

    def _checksums(self, block: Block, kept: Compared) -> Ints:
        ts_ms = kept_ms(block.ts_ms, kept)
        values = [(block.values[name], decimals) for name, decimals in self.signals(kept)]
        return checksums(ts_ms if kept.by_time else block.seq, ts_ms, values)

    def signals(self, kept: Compared | None = None) -> list[tuple[str, int]]:
        """(name, decimals) of every signal that is kept, in the order of the checksum."""
        names = self.fleet.signal_names
        if kept is not None and kept.signals is not None:
            names = [name for name in names if name in kept.signals]
        return [(name, self.fleet.decimals[name]) for name in names]

    @property
    def must_land(self) -> Bools:
        """Readings that have to be in the time series: acknowledged, and not to be refused."""
        must: Bools = (self.outcome == ACKED) & (self.refusal == 0)
        return must

    @property
    def must_refuse(self) -> Bools:
        """Readings that are surely refused, if they arrive."""
        sure: Bools = (self.refusal > 0) & self._refuses[self.refusal]
        return sure

    @property
    def may_land(self) -> Bools:
        """Readings that may be in the time series."""
        may: Bools = (
            (self.outcome == ACKED) | (self.outcome == UNKNOWN)
        ) & ~self.must_refuse  # fmt: skip
        return may

    @property
    def left_open(self) -> Bools:
        """Readings that may be in the time series or not: neither is wrong."""
        may: Bools = self.may_land & ~self.must_land
        return may

    @property
    def device_of(self) -> Ints:
        """Device numbers."""
        return self.fleet.devices_in_turn(np.arange(len(self.outcome), dtype=np.int64))

    @property
    def seq_of(self) -> Ints:
        """Readings' numbers within their devices."""
        return np.arange(len(self.outcome), dtype=np.int64) // self.scenario.fleet.devices

    def release_ns(self) -> Ints:
        """When each row of the ledger was due to leave, faults' delays included, epoch ns."""
        numbers = self.history.k
        due_s = self.fleet.due_s(numbers)
        if self._delay_s:
            held = np.array(sorted(self._delay_s), dtype=np.int64)
            delays = np.array([self._delay_s[k] for k in held.tolist()])
            at = np.minimum(np.searchsorted(held, numbers), len(held) - 1)
            due_s = due_s + np.where(held[at] == numbers, delays[at], 0.0)
        due: Ints = self.run.start_ms * 1_000_000 + np.rint(due_s * 1e9).astype(np.int64)
        return due

    @property
    def released_all(self) -> bool:
        """Whether the whole schedule was released: every reading that is ever sent has a row."""
        return bool(((self.outcome > 0) | (self.sends == 0)).all())

    @property
    def sends_per_slot(self) -> float:
        """How often a reading of the schedule was sent in the mean, as far as it was released."""
        sends = self.sends if self.released_all else self.sends[: self._released]
        return float(sends.mean()) if len(sends) else 1.0

    def count(self, outcome: int) -> int:
        """How many rows of the ledger have an outcome; a reading has one for each time it is sent."""
        return self.history.count(outcome)

    def find_sha256(self, digest: str) -> int:
        """Which reading has a payload, too long for a message, of this hash; -1 where none does."""
        return self._by_sha256.get(digest, -1)

    def find(self, hashes: Ints) -> Ints:
        """Which reading each payload hash belongs to; -1 where none does."""
        ordered = self._payloads_in_order
        if not len(ordered):
            return np.full(len(hashes), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
        return np.where(ordered[at] == hashes, self._by_payload[at], -1).astype(np.int64)

    def number(self, device: str, seq: int) -> int:
        """The number of a reading by its device and seq; -1 where the fleet has no such reading."""
        return self.fleet.number(device, seq)

    def numbers_at(self, devices: Sequence[str], ts_ms: Ints, kept: Compared) -> Ints:
        """The numbers of readings by their devices and timestamps; -1 where there is none.

        Args:
            devices: Names, as many as there are timestamps.
            ts_ms: Epoch milliseconds, shape (n,).
            kept: To what the store keeps timestamps.

        Raises:
            UsageError: the run has two readings of a device that are alike in this.
        """
        ordered, keys = self._by_time(kept)
        device = np.array([self.fleet.device_number(name) for name in devices], dtype=np.int64)
        wanted = device * _SPAN + np.clip(ts_ms - self._base_ms, 0, _SPAN - 1)
        if not len(keys):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[at] == wanted) & (device >= 0), ordered[at], -1).astype(np.int64)

    @property
    def _base_ms(self) -> int:
        return self.run.start_ms - _SPAN // 2

    def _by_time(self, kept: Compared) -> tuple[Ints, Ints]:
        """(numbers of the readings, device and time as one number), in the latter's order."""
        if kept.unit_ms not in self._in_time:
            times = kept_ms(self.ts_ms[: self._released], kept)
            keys = self.device_of[: self._released] * _SPAN + times - self._base_ms
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            if (np.diff(keys) == 0).any():
                raise UsageError(
                    f"run {self.run.id}: a device has readings within {kept.unit_ms} ms, so that "
                    "their times do not tell them apart: map the seq"
                )
            self._in_time[kept.unit_ms] = (order, keys)
        return self._in_time[kept.unit_ms]

    def landed_number(self, device: str, number: int, kept: Compared) -> int:
        """The number of a reading by its device and its seq, or its time where that tells it."""
        if not kept.by_time:
            return self.number(device, number)
        return int(self.numbers_at([device], np.array([number], dtype=np.int64), kept)[0])

    def rows(self, devices: Iterable[int]) -> Iterator[TrueRow]:
        """The readings of some devices, by their numbers, as they were generated."""
        wanted = np.zeros(self.scenario.fleet.devices, dtype=np.bool_)
        wanted[list(devices)] = True
        fleet = self.fleet
        for block in fleet.blocks(0, self._released):
            for index in np.flatnonzero(wanted[block.device_index]).tolist():
                device = int(block.device_index[index])
                kind = self.scenario.fleet.classes[int(block.class_index[index])]
                yield TrueRow(
                    int(block.k[index]),
                    fleet.device_ids[device],
                    kind.name,
                    fleet.site_name(device),
                    int(block.seq[index]),
                    int(block.ts_ms[index]),
                    {name: float(block.values[name][index]) for name in kind.signals},
                )


def kept_ms(ts_ms: Ints, kept: Compared) -> Ints:
    """Timestamps as a store keeps them; zeros where it keeps none. Shape as given."""
    if not kept.unit_ms:
        return np.zeros_like(ts_ms)
    return ts_ms - ts_ms % kept.unit_ms


def checksums(seq: Ints, ts_ms: Ints, signals: list[tuple[NDArray[np.float64], int]]) -> Ints:
    """The checksum of each reading's content, shape (n,). Timestream computes the same in SQL.

    c = (ts mod M + sum over signals i of (2i + 3) (M + round(value 10^decimals) mod M))
    ((seq mod S) + 1), where a signal that a reading does not have adds nothing. Values are
    compared as whole numbers of their last decimal; `mod` has the sign of its dividend. The factor
    of the seq makes the sum over a device change when two of its readings swap their values.

    Args:
        seq: Numbers of the readings, shape (n,).
        ts_ms: Their timestamps, epoch milliseconds, shape (n,).
        signals: (values of shape (n,), NaN where there is none; decimals), in order.
    """
    content = np.fmod(ts_ms, MODULUS)
    for index, (values, decimals) in enumerate(signals):
        there = ~np.isnan(values)
        scaled = np.round(np.where(there, values, 0.0) * 10**decimals).astype(np.int64)
        content = content + np.where(
            there, (2 * index + 3) * (MODULUS + np.fmod(scaled, MODULUS)), 0
        )
    product: Ints = content * (np.fmod(seq, SEQ_MODULUS) + 1)
    return product


def payload_hashes(payloads: Sequence[bytes]) -> Ints:
    """64-bit hashes of payloads, shape (n,): Python's own, the same within this process alone."""
    return np.fromiter(map(hash, payloads), np.int64, len(payloads))


def _numbers(history: History, total: int, scenario: Scenario) -> Ints:
    """The numbers of the ledger's readings, checked against the scenario."""
    numbers = history.k
    if not len(numbers):
        return numbers
    wrong: Any = None
    if numbers.min() < 0 or numbers.max() >= total:
        wrong = f"reading {int(numbers.max())} of {total}"
    elif (history.seq != numbers // scenario.fleet.devices).any():
        wrong = "readings with other seq numbers than the scenario gives them"
    if wrong is not None:
        raise UsageError(_other_ledger(scenario, wrong))
    return numbers


def _refuse_copies(rows: Any, sends: NDArray[np.int8], scenario: Scenario) -> None:
    """Refuses a ledger with more rows of a reading than it is sent."""
    more = np.flatnonzero(rows > sends)
    if len(more):
        k = int(more[0])
        wrong = f"{int(rows[k])} rows of reading {k}, to be sent {int(sends[k])} times"
        raise UsageError(_other_ledger(scenario, wrong))


def _other_ledger(scenario: Scenario, wrong: str) -> str:
    return f"the ledger is not one of scenario {scenario.name}: it has {wrong}"

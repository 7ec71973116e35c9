"""What landed in an archive whose lines are a pipeline's own: readings are told by fields of theirs."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from fleetcast.pipeline.model import UNIT_MS, path_of
from fleetcast.verify.archive import ArchivePlace, ArchiveReader, at_path
from fleetcast.verify.compared import Compared
from fleetcast.verify.truth import checksums, kept_ms

if TYPE_CHECKING:
    from fleetcast.pipeline.model import Fields
    from fleetcast.verify.truth import Ints, Truth

# No reading has this seq or time.
_NONE = -1


class FieldsArchiveReader(ArchiveReader):
    """Reads an archive of one run, in lines of JSON that a pipeline made of payloads.

    Broken readings may be there or not: what a pipeline makes of them before it archives is its own.

    Args:
        client: An `s3` client.
        where: Which objects.
        fields: Where a line has what tells the reading.
        truth: What was sent.
        deadline_ms: ArchivePlace written after it are late, epoch milliseconds.
    """

    def __init__(
        self, client: Any, where: ArchivePlace, fields: Fields, truth: Truth, deadline_ms: int
    ) -> None:
        super().__init__(client, where, truth, deadline_ms)
        self._kept = Compared.by(fields)
        self._unit_ms = UNIT_MS[fields.time_unit]
        self._paths = {field: path_of(place) for field, place in fields.names().items()}
        self._forms = {field: re.compile(form) for field, form in fields.forms().items()}
        self._signals = truth.signals(self._kept)
        self._required = np.where(truth.refusal == 0, truth.acked_copies, 0).astype(np.int16)
        unit_ms = max(1, self._kept.unit_ms)
        self._first_ms = truth.run.start_ms - truth.run.start_ms % unit_ms
        self._last_ms = truth.run.start_ms + round(truth.scenario.profile.duration_s * 1000)

    def _known(self, lines: list[bytes]) -> Ints:
        """See `ArchiveReader`."""
        truth = self._truth
        mine, devices, numbers, values = [], [], [], []
        for line in lines:
            value = self._of_run(line)
            if value is None:
                self.foreign += 1
                continue
            mine.append(line)
            values.append(value)
            devices.append(str(self._at(value, "device")))
            numbers.append((self._whole(value), self._time_ms(value)))
        if not mine:
            return np.empty(0, dtype=np.int64)
        seq, ts_ms = np.array(numbers, dtype=np.int64).T
        if self._kept.by_time:
            found = truth.numbers_at(devices, ts_ms, self._kept)
        else:
            told = zip(devices, seq.tolist(), strict=True)
            found = np.array([truth.number(*one) for one in told], dtype=np.int64)
        same = self._content(seq, ts_ms, values) == truth.fields_checksum[found]
        # What a pipeline makes of a broken payload that it takes is its own.
        same |= truth.refusal[found] > 0
        for index in np.flatnonzero(found < 0).tolist():
            if "run" in self._paths or truth.fleet.device_number(devices[index]) >= 0:
                self._is_phantom(mine[index])
            else:
                self.foreign += 1
        for index in np.flatnonzero((found >= 0) & ~same).tolist():
            self._is_corrupted(int(found[index]), mine[index])
        known: Ints = found[(found >= 0) & same]
        return known

    def _of_run(self, line: bytes) -> Any:
        """A line's value; None where it is none of the run's."""
        try:
            value = orjson.loads(line)
        except ValueError:
            return None
        if "run" in self._paths:
            return value if self._at(value, "run") == self._truth.run.id else None
        return value if self._first_ms <= self._time_ms(value) <= self._last_ms else None

    def _content(self, seq: Ints, ts_ms: Ints, values: list[Any]) -> Ints:
        """The checksum of each line's content."""
        kept = self._kept
        columns = [
            (np.array([_number(self._at(v, f"measures.{name}")) for v in values]), decimals)
            for name, decimals in self._signals
        ]
        times = kept_ms(ts_ms, kept)
        return checksums(times if kept.by_time else seq, times, columns)

    def _at(self, value: Any, field: str) -> Any:
        told = at_path(value, self._paths[field])
        form = self._forms.get(field)
        if form is None:
            return told
        match = form.fullmatch(told) if isinstance(told, str) else None
        return None if match is None else match[1]

    def _whole(self, value: Any) -> int:
        if "sequence" not in self._paths:
            return _NONE
        try:
            return int(self._at(value, "sequence"))
        except (ValueError, TypeError):
            return _NONE

    def _time_ms(self, value: Any) -> int:
        """A line's timestamp, epoch milliseconds, to what the archive keeps."""
        if "time" not in self._paths:
            return 0
        told = self._at(value, "time")
        try:
            if isinstance(told, str) and not told.isdecimal():
                moment = dt.datetime.fromisoformat(told)
                since = moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp()
                ms = round(since * 1000)
            else:
                ms = round(float(told) * self._unit_ms)
        except (ValueError, TypeError, OverflowError):
            return _NONE
        return ms - ms % self._unit_ms


def _number(value: Any) -> float:
    """A value as a number; NaN where it is none."""
    if isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except (ValueError, TypeError):
        return float("nan")

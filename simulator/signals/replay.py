"""Values that were recorded elsewhere, replayed."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from simulator.parameters import Span, fixed
from simulator.signals.base import Floats, Readings, Signal
from simulator.tables import FromFile, columns


class Replay(Signal, FromFile):
    """A column of a CSV or Parquet file over time.

    Attributes:
        column: The values.
        time: Column with the times: seconds, or timestamps, ascending. None: a row each `step`.
        step: Time between rows where no column tells it.
        between: `hold` keeps a value until the next, `line` goes straight to it.
        end: After the last row: `loop` begins again, `hold` keeps the last value.
        stagger: Whether devices start at places of their own in the recording.
    """

    model: Literal["replay"]
    column: str
    time: str | None = None
    step: Span = fixed(1.0)
    between: Literal["hold", "line"] = "line"
    end: Literal["loop", "hold"] = "loop"
    stagger: bool = True

    @model_validator(mode="after")
    def _readable(self) -> Self:
        if self.time is not None and "step" in self.model_fields_set:
            raise ValueError("step is for files without a time column: give one of the two")
        times, _ = self._recorded()
        if (np.diff(times) <= 0).any():
            row = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 2
            raise ValueError(f"file: column {self.time!r} does not ascend in row {row}")
        return self

    def _recorded(self) -> tuple[Floats, Floats]:
        """(seconds from the first row, values)."""
        if self.time is None:
            (values,) = columns(self.file, self.sha256, (self.column,))
            return np.arange(len(values), dtype=np.float64) * self.step.value, values
        times, values = columns(self.file, self.sha256, (self.time, self.column))
        return times - times[0], values

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        times, values = self._recorded()
        # The last row lasts as long as rows do in the mean.
        last_s = times[-1] / (len(times) - 1) if len(times) > 1 else self.step.value
        whole_s = float(times[-1] + last_s)
        into_s = at.at_s + at.place() * whole_s if self.stagger else at.at_s
        into_s = into_s % whole_s if self.end == "loop" else np.minimum(into_s, times[-1])
        if self.between == "line":
            return np.interp(into_s, times, values)
        row = np.searchsorted(times, into_s, side="right") - 1
        held: Floats = values[np.maximum(row, 0)]
        return held

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        _, values = self._recorded()
        return float(values.min()), float(values.max())

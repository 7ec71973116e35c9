"""A rate, or arrivals, that were recorded elsewhere, replayed."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

from simulator.rates.base import Floats, Pieces, Shape
from simulator.tables import FromFile, columns, locate


class Trace(FromFile, Shape):
    """A recorded rate, or recorded arrivals, replayed.

    Attributes:
        time: Column with times: seconds, or timestamps; they count from the first.
        column: Column with the rate at each time, straight lines between; without it, each row is
            one arrival.
        times: Multiplies the rate.
        duration: Of the whole; what was recorded is stretched to it. As recorded if not given.
    """

    shape: Literal["trace"]
    time: str = "at_s"
    column: str | None = None
    times: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, value: Any, info: ValidationInfo) -> Any:
        value = locate(value, info)
        if isinstance(value, dict) and "duration" not in value and isinstance(value["file"], str):
            (at_s,) = columns(value["file"], value["sha256"], (value.get("time", "at_s"),))
            if len(at_s) < 2 or at_s[-1] <= at_s[0]:  # noqa: PLR2004
                raise ValueError("file: must ascend over two rows or more to tell a duration")
            span_s = float(at_s[-1] - at_s[0])
            if value.get("column") is None:
                span_s *= len(at_s) / (len(at_s) - 1)
            return {**value, "duration": span_s}
        return value

    @model_validator(mode="after")
    def _usable(self) -> Self:
        at_s, rates = self._recorded
        if (np.diff(at_s) < 0).any() or (rates is not None and len(at_s) < 2):  # noqa: PLR2004
            raise ValueError(f"file: column {self.time!r} must ascend, over two rows or more")
        if rates is not None and (rates < 0).any():
            raise ValueError(f"file: column {self.column!r} has a rate below 0")
        if self.whole and self.arrivals == "poisson":
            raise ValueError("arrivals: recorded arrivals are replayed as they are: leave it out")
        return self

    @cached_property
    def _recorded(self) -> tuple[Floats, Floats | None]:
        """(seconds from the first row, rates per second or None), stretched to the duration."""
        if self.column is None:
            (at_s,) = columns(self.file, self.sha256, (self.time,))
            span_s = float(at_s[-1] - at_s[0]) * len(at_s) / max(1, len(at_s) - 1)
            stretch = self.duration / span_s if span_s > 0 else 1.0
            return (at_s - at_s[0]) * stretch, None
        at_s, rates = columns(self.file, self.sha256, (self.time, self.column))
        span_s = float(at_s[-1] - at_s[0])
        stretch = self.duration / span_s if span_s > 0 else 1.0
        return (at_s - at_s[0]) * stretch, rates * self.times

    @property
    def whole(self) -> bool:
        """See `Shape`."""
        return self.column is None

    @cached_property
    def _pieces(self) -> Pieces:
        at_s, rates = self._recorded
        if rates is None:
            raise AssertionError
        return Pieces(np.diff(at_s).tolist(), rates[:-1].tolist(), rates[1:].tolist())

    @property
    def peak(self) -> float:
        """See `Shape`. Of arrivals, the most that are due in any second."""
        at_s, rates = self._recorded
        if rates is not None:
            return self._pieces.peak
        until = np.searchsorted(at_s, at_s + 1.0, side="left")
        return float((until - np.arange(len(at_s))).max()) * self.times

    def count(self, elapsed_s: float) -> float:
        """See `Shape`."""
        at_s, rates = self._recorded
        if rates is not None:
            return self._pieces.count(elapsed_s)
        return float(np.floor(np.searchsorted(at_s, elapsed_s, side="right") * self.times + 1e-9))

    def rate_at(self, elapsed_s: float) -> float:
        """See `Shape`. Of arrivals, those in the second that begins then."""
        if not self.whole:
            return self._pieces.rate_at(elapsed_s)
        at_s, _ = self._recorded
        first, last = np.searchsorted(at_s, [elapsed_s, elapsed_s + 1.0])
        return float(last - first) * self.times

    def due_s(self, number: Floats) -> Floats:
        """See `Shape`."""
        at_s, rates = self._recorded
        if rates is not None:
            return self._pieces.due_s(number)
        row = np.floor(number + 1e-9) / self.times
        return np.interp(row, np.arange(len(at_s), dtype=np.float64), at_s)

    def least_gap_s(self, devices: int) -> float:
        """See `Shape`."""
        if not self.whole:
            return super().least_gap_s(devices)
        total = int(self.count(self.duration))
        if total <= devices:
            return float("inf")
        due = self.due_s(np.arange(total, dtype=np.float64))
        return float((due[devices:] - due[:-devices]).min())

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:  # noqa: ARG002
        return {"times": self.times * rate}

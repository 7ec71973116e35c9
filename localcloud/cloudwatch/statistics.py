"""CloudWatch's statistics: their names, and what each makes of the samples of a period.

Follows "CloudWatch statistics definitions" of the user guide. Bounds in per cent cut the sorted
samples by their number, a sample at the cut counting with the part that is inside; absolute bounds
leave out the lower and take in the upper.
"""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.cloudwatch.metrics import Bucket

Kind = Literal["p", "TM", "TC", "TS", "WM", "PR"]
SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_NUMBER = r"\d+(?:\.\d{1,10})?"
_SHORT = re.compile(rf"(p|tm|tc|ts|wm)({_NUMBER})")
_LONG = re.compile(rf"(TM|TC|TS|WM|PR)\(({_NUMBER})?(%?):({_NUMBER})?(%?)\)")
_WHOLE = 100.0

Samples = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Statistic:
    """An extended statistic.

    Attributes:
        kind: Percentile, trimmed mean, trimmed count, trimmed sum, winsorized mean, or rank.
        low: Lower bound, or None.
        high: Upper bound, or None; of a percentile, its per cent.
        percent: Whether the bounds are per cent of the samples.
    """

    kind: Kind
    low: float | None
    high: float | None
    percent: bool

    def of(self, bucket: Bucket) -> float | None:
        """The statistic of a period, or None where CloudWatch has none.

        There is none for statistic sets, of which single values are not known, and none by per
        cent where a value is negative.
        """
        if not bucket.knows_values or (self.percent and bucket.minimum < 0):
            return None
        samples = sorted(bucket.values.items())
        count = sum(weight for _, weight in samples)
        if self.kind == "p":
            return _percentile(samples, count, self.high or 0.0)
        inside = self._inside(samples, count)
        kept = sum(weight for _, weight in inside)
        total = sum(value * weight for value, weight in inside)
        match self.kind:
            case "TC":
                return kept
            case "TS":
                return total
            case "PR":
                return _WHOLE * kept / count
            case "WM":
                return self._winsorized(samples, count, total)
        return total / kept if kept else None

    def _inside(self, samples: Samples, count: float) -> Samples:
        if not self.percent:
            low = float("-inf") if self.low is None else self.low
            high = float("inf") if self.high is None else self.high
            return [(value, weight) for value, weight in samples if low < value <= high]
        first = (self.low or 0.0) / _WHOLE * count
        last = (_WHOLE if self.high is None else self.high) / _WHOLE * count
        inside: Samples = []
        seen = 0.0
        for value, weight in samples:
            part = min(seen + weight, last) - max(seen, first)
            seen += weight
            if part > 0:
                inside.append((value, part))
        return inside

    def _winsorized(self, samples: Samples, count: float, total: float) -> float:
        if not self.percent:
            low = samples[0][0] if self.low is None else self.low
            high = samples[-1][0] if self.high is None else self.high
            return sum(min(max(v, low), high) * weight for v, weight in samples) / count
        low_part = (self.low or 0.0) / _WHOLE
        high_part = (_WHOLE if self.high is None else self.high) / _WHOLE
        below = _percentile(samples, count, low_part * _WHOLE) * low_part * count
        above = _percentile(samples, count, high_part * _WHOLE) * (1 - high_part) * count
        return (below + total + above) / count

    @property
    def least_samples(self) -> float:
        """How few samples are too few for a percentile to mean something; 0 for the others."""
        if self.kind != "p" or self.high is None:
            return 0.0
        part = self.high / _WHOLE
        if part >= 0.5:  # noqa: PLR2004 - the guide's two cases
            return 10 / (1 - part) if part < 1 else 0.0
        return 10 / part if part else 0.0


def _percentile(samples: Sequence[tuple[float, float]], count: float, percent: float) -> float:
    rank = percent / _WHOLE * count
    seen = itertools.accumulate(weight for _, weight in samples)
    for (value, _), reached in zip(samples, seen, strict=True):
        # Sums of weights are not exact.
        if reached >= rank - 1e-9 * count:
            return value
    return samples[-1][0]


@functools.lru_cache(maxsize=1024)
def parse_extended(name: str) -> Statistic:
    """The extended statistic of that name, such as `p99`, `tm90`, `TM(2%:98%)`, `PR(:300)`, `IQM`.

    Raises:
        ValueError: there is none.
    """
    if name == "IQM":
        return Statistic("TM", 25.0, 75.0, percent=True)
    short = _SHORT.fullmatch(name)
    if short:
        kind, number = short.group(1), float(short.group(2))
        if number <= _WHOLE:
            upper: Kind = "p" if kind == "p" else kind.upper()  # type: ignore[assignment]
            return Statistic(upper, None, number, percent=True)
    long = _LONG.fullmatch(name)
    if long:
        kind, low, low_sign, high, high_sign = long.groups()
        bounds = [float(text) for text in (low, high) if text is not None]
        signs = {sign for text, sign in ((low, low_sign), (high, high_sign)) if text is not None}
        loose = (low is None and low_sign) or (high is None and high_sign)
        percent = signs == {"%"}
        if (
            bounds
            and not loose
            and len(signs) == 1
            and bounds == sorted(bounds)
            and not (percent and (kind == "PR" or bounds[-1] > _WHOLE))
        ):
            return Statistic(
                kind,  # type: ignore[arg-type]
                None if low is None else float(low),
                None if high is None else float(high),
                percent=percent,
            )
    raise ValueError(
        f"The value {name} for parameter ExtendedStatistic is not supported: use a percentile such "
        "as p99, tm, tc, ts or wm with a number, TM, TC, TS, WM or PR with bounds, or IQM"
    )


def statistic_of(name: str, bucket: Bucket) -> float | None:
    """A statistic of a period by its name.

    Raises:
        ValueError: there is no such statistic.
    """
    match name:
        case "Sum":
            return bucket.total
        case "Average":
            return bucket.total / bucket.count
        case "SampleCount":
            return bucket.count
        case "Minimum":
            return bucket.minimum
        case "Maximum":
            return bucket.maximum
    return parse_extended(name).of(bucket)

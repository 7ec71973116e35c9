"""MetricDatum: what PutMetricData is given, looked at before anything is stored."""

from __future__ import annotations

import datetime as dt
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.query import dimensions_of
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.cloudwatch.metrics import MetricStore

MAX_VALUES = 150
MAX_DIMENSIONS = 30
MAX_NAME = 255
PAST_S, FUTURE_S = 14 * 86_400, 2 * 3600
_SET = ("Sum", "SampleCount", "Minimum", "Maximum")


@dataclass(frozen=True, slots=True)
class Datum:
    """One datum: single values with their counts, or a statistic set."""

    name: str
    dimensions: dict[str, str]
    unit: str
    timestamp_s: int | None
    samples: tuple[tuple[float, float], ...]
    statistic_set: tuple[float, float, float, float] | None

    def add_to(self, store: MetricStore, namespace: str) -> None:
        """Stores it."""
        bucket = store.bucket(namespace, self.name, self.dimensions, self.unit, self.timestamp_s)
        for value, count in self.samples:
            bucket.add(value, count)
        if self.statistic_set is not None:
            bucket.add_set(*self.statistic_set)


def read_datum(given: dict[str, Any]) -> Datum:
    """The datum of the API's MetricDatum structure.

    Raises:
        AwsError: InvalidParameterValue or MissingParameter naming what is wrong.
    """
    name = given["MetricName"]
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise _invalid(f"MetricName must have 1 to {MAX_NAME} characters")
    dimensions = dimensions_of(given.get("Dimensions"))
    if len(dimensions) > MAX_DIMENSIONS:
        raise _invalid(f"{name} has more than {MAX_DIMENSIONS} dimensions")
    if given.get("StorageResolution", 60) not in {1, 60}:
        raise _invalid(f"StorageResolution of {name} must be 1 or 60")
    samples: tuple[tuple[float, float], ...] = ()
    statistic_set: tuple[float, float, float, float] | None = None
    if given.get("Values") is not None:
        samples = _weighted(name, given["Values"], given.get("Counts"))
    elif given.get("StatisticValues"):
        total, count, least, most = _numbers(name, (given["StatisticValues"][n] for n in _SET))
        if count <= 0 or least > most:
            raise _invalid(f"StatisticValues of {name} are of no samples")
        statistic_set = (total, count, least, most)
    elif given.get("Value") is not None:
        samples = _weighted(name, [given["Value"]], None)
    else:
        raise AwsError("MissingParameter", f"{name} has no value")
    unit = given.get("Unit") or "None"
    return Datum(name, dimensions, unit, _second(name, given), samples, statistic_set)


def _second(name: str, given: dict[str, Any]) -> int | None:
    moment: dt.datetime | None = given.get("Timestamp")
    if moment is None:
        return None
    second = int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())
    if not -PAST_S <= second - time.time() <= FUTURE_S:
        raise _invalid(
            f"The Timestamp of {name} must be within the past two weeks and the next two hours."
        )
    return second


def _weighted(
    name: str, values: list[Any], counts: list[Any] | None
) -> tuple[tuple[float, float], ...]:
    weights = [1.0] * len(values) if counts is None else counts
    if not 1 <= len(values) <= MAX_VALUES or len(weights) != len(values):
        raise _invalid(f"Values of {name}: 1 to {MAX_VALUES}, as many as Counts")
    pairs = zip(_numbers(name, values), _numbers(name, weights), strict=True)
    return tuple(pairs)


def _numbers(name: str, given: Iterable[Any]) -> list[float]:
    """Numbers; JSON has texts for those that are not finite."""
    numbers = [float(number) for number in given]
    if not all(map(math.isfinite, numbers)):
        raise _invalid(f"NaN and Infinity are no values of {name}")
    return numbers


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message)

"""Parameters of models: a number, or a distribution from which each device draws its own.

mean: 4
mean: {normal: {mean: 4, sd: 1, min: 0}}
mean: {uniform: {low: 2, high: 6}}
mean: {lognormal: {median: 4, spread: 1.5}}
mean: {choice: [2, 4, 8]}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from simulator import noise
from simulator.units import duration_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Floats = NDArray[np.float64]

# Farthest that `noise.normal` is from its mean, in standard deviations.
REACH = 4.9
_EXAMPLE = "write 4 or {normal: {mean: 4, sd: 1}}"
_FIELDS = {
    "normal": ({"mean", "sd"}, {"min", "max"}),
    "uniform": ({"low", "high"}, set()),
    "lognormal": ({"median", "spread"}, {"min", "max"}),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number, or what devices draw theirs from.

    Attributes:
        kind: `fixed`, `normal`, `uniform`, `lognormal` or `choice`.
        numbers: The number; mean and standard deviation; the ends; median and the factor of one
            standard deviation; the choices.
        low: Lowest number that can come of it.
        high: Highest number that can come of it.
    """

    kind: str
    numbers: tuple[float, ...]
    low: float
    high: float

    @property
    def fixed(self) -> bool:
        """Whether every device has the same."""
        return self.kind == "fixed"

    @property
    def value(self) -> float:
        """The number of a fixed one, the middle of any other."""
        if self.kind in {"fixed", "normal", "lognormal"}:
            return min(max(self.numbers[0], self.low), self.high)
        return sum(self.numbers) / len(self.numbers)

    def draw(self, stream: np.uint64, device: Any) -> Floats:
        """The numbers of devices, of their numbers' shape."""
        if self.kind == "fixed":
            return np.full(np.shape(device), self.numbers[0])
        if self.kind == "uniform":
            low, high = self.numbers
            return low + (high - low) * noise.uniform(stream, device)
        if self.kind == "choice":
            which = noise.bits(stream, device) % np.uint64(len(self.numbers))
            chosen: Floats = np.array(self.numbers)[which.astype(np.int64)]
            return chosen
        normal = noise.normal(stream, device)
        if self.kind == "normal":
            drawn = self.numbers[0] + self.numbers[1] * normal
        else:
            drawn = self.numbers[0] * self.numbers[1] ** normal
        return np.clip(drawn, self.low, self.high)

    def written(self) -> Any:
        """As it is written in a file."""
        if self.kind == "fixed":
            return self.numbers[0]
        if self.kind == "choice":
            return {"choice": list(self.numbers)}
        first, second = {
            "normal": ("mean", "sd"), "uniform": ("low", "high"), "lognormal": ("median", "spread"),
        }[self.kind]  # fmt: skip
        told = {first: self.numbers[0], second: self.numbers[1]}
        if self.kind != "uniform":
            told |= {"min": self.low, "max": self.high}
        return {self.kind: told}


def fixed(value: float) -> Parameter:
    """A parameter that is the same for every device."""
    return Parameter("fixed", (value,), value, value)


def read(value: Any, number: Callable[[Any], float]) -> Parameter:
    """A parameter as it is written.

    Args:
        value: What is written.
        number: Reads a number in it.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, Parameter):
        return value
    if not isinstance(value, dict):
        return fixed(number(value))
    if len(value) != 1:
        raise ValueError(f"{value!r} is no distribution: {_EXAMPLE}")
    ((kind, told),) = value.items()
    if kind == "choice":
        if not isinstance(told, list) or not told:
            raise ValueError("choice needs a list of numbers: write {choice: [2, 4]}")
        choices = tuple(number(item) for item in told)
        return Parameter("choice", choices, min(choices), max(choices))
    if kind not in _FIELDS:
        raise ValueError(
            f"unknown distribution {kind!r}: known are {', '.join([*_FIELDS, 'choice'])}"
        )
    return _distribution(kind, _numbers(kind, told, number))


def _numbers(kind: str, told: Any, number: Callable[[Any], float]) -> dict[str, float]:
    needed, allowed = _FIELDS[kind]
    if not isinstance(told, dict) or not needed <= told.keys() <= needed | allowed:
        also = f", and may have {' and '.join(sorted(allowed))}" if allowed else ""
        raise ValueError(f"{kind} needs {' and '.join(sorted(needed))}{also}")
    return {name: number(item) for name, item in told.items()}


def _distribution(kind: str, told: Mapping[str, float]) -> Parameter:
    if kind == "uniform":
        low, high = told["low"], told["high"]
        if low > high:
            raise ValueError(f"uniform: low {low:g} is above high {high:g}")
        return Parameter(kind, (low, high), low, high)
    if kind == "normal":
        middle, width = told["mean"], told["sd"]
        if width < 0:
            raise ValueError("normal: sd must be 0 or more")
        low, high = middle - REACH * width, middle + REACH * width
    else:
        middle, width = told["median"], told["spread"]
        if middle <= 0 or width < 1:
            raise ValueError("lognormal: median must be above 0, and spread 1 or more")
        low, high = middle * width**-REACH, middle * width**REACH
    low, high = max(low, told.get("min", low)), min(high, told.get("max", high))
    if low > high:
        raise ValueError(f"{kind}: min and max leave no number")
    return Parameter(kind, (middle, width), low, high)


def finite(value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number: {_EXAMPLE}")  # noqa: TRY004 - for pydantic
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number: {_EXAMPLE}") from None
    if not math.isfinite(number):
        raise ValueError(f"{number!r} is not a finite number")
    return number


def _reader(
    number: Callable[[Any], float], *, above: float = -math.inf, least: float = -math.inf
) -> Callable[[Any], Parameter]:
    def checked(value: Any) -> Parameter:
        parameter = read(value, number)
        drawn = "" if parameter.fixed else f", and it can be {parameter.low:g}"
        if not parameter.low > above:
            raise ValueError(f"must be more than {above:g}{drawn}")
        if not parameter.low >= least:
            raise ValueError(f"must be {least:g} or more{drawn}")
        return parameter

    return checked


_written = PlainSerializer(Parameter.written)
Number = Annotated[Parameter, PlainValidator(_reader(finite)), _written]
Positive = Annotated[Parameter, PlainValidator(_reader(finite, above=0)), _written]
NotNegative = Annotated[Parameter, PlainValidator(_reader(finite, least=0)), _written]
Span = Annotated[Parameter, PlainValidator(_reader(duration_s, above=0)), _written]
SpanOrNone = Annotated[Parameter, PlainValidator(_reader(duration_s, least=0)), _written]

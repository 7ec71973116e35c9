"""Metric math: what operators and functions make of scalars, time series and arrays of series.

Follows "Metric math syntax and functions" and "Using IF expressions" of the CloudWatch user guide:
operators take a missing value for 0 where the other series has one, and a division by zero leaves
no data point. Where the guide does not say what missing values are to an aggregate of an array,
they are left out; AVG counts them as 0, as it says.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import operator
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from localcloud.cloudwatch.expression import (
    Array,
    Binary,
    Call,
    Name,
    Negation,
    Node,
    Number,
    Text,
    parse,
)
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Line:
    """A time series.

    Attributes:
        points: Values by period start.
        period_s: Length of a period.
        label: What a legend calls it by default.
        metric: The metric's properties, for labels; None for what is computed.
    """

    points: dict[int, float]
    period_s: int
    label: str = ""
    metric: Mapping[str, Any] | None = None

    def with_points(self, points: dict[int, float]) -> Line:
        """The same line with other points."""
        return Line(points, self.period_s, self.label, self.metric)


Value = float | Line | list[Line]


class Search(Protocol):
    """Finds the lines of a SEARCH function."""

    def __call__(self, query: str, statistic: str, period_s: int) -> list[Line]:
        """Every metric that matches, in a statistic, by period."""


@dataclass(frozen=True, slots=True)
class MathContext:
    """What an expression can refer to.

    Attributes:
        value: The series of a metric or an expression by id; raises for unknown ids.
        metrics: Lines of the request's metrics by id, without expressions.
        starts: Every period start of the evaluated range, ascending.
        period_s: Length of a period.
        search: What SEARCH asks.
    """

    value: Callable[[str], Value]
    metrics: Mapping[str, Line]
    starts: Sequence[int]
    period_s: int
    search: Search = field(repr=False)


def _divide(left: float, right: float) -> float:
    return left / right


_OPERATORS: dict[str, Callable[[float, float], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "^": operator.pow,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "&&": lambda left, right: bool(left) and bool(right),
    "||": lambda left, right: bool(left) or bool(right),
}
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "SUM": math.fsum,
    "MIN": min,
    "MAX": max,
    "STDDEV": statistics.pstdev,
}
_POINTWISE: dict[str, Callable[[float], float]] = {
    "ABS": abs,
    "CEIL": math.ceil,
    "FLOOR": math.floor,
    "LOG": math.log,
    "LOG10": math.log10,
}
_CALENDAR: dict[str, Callable[[dt.datetime], float]] = {
    "MINUTE": lambda moment: moment.minute,
    "HOUR": lambda moment: moment.hour,
    "DAY": lambda moment: moment.isoweekday(),
    "DATE": lambda moment: moment.day,
    "MONTH": lambda moment: moment.month,
    "YEAR": lambda moment: moment.year,
    "EPOCH": lambda moment: moment.timestamp(),
}


def _differences(
    of: Callable[[int, float, int, float], float],
) -> Callable[[dict[int, float]], dict[int, float]]:
    def over(points: dict[int, float]) -> dict[int, float]:
        pairs = itertools.pairwise(sorted(points.items()))
        return {now: of(before, first, now, second) for (before, first), (now, second) in pairs}

    return over


def _running_sum(points: dict[int, float]) -> dict[int, float]:
    times = sorted(points)
    return dict(zip(times, itertools.accumulate(points[at] for at in times), strict=True))


_LINEWISE: dict[str, Callable[[dict[int, float]], dict[int, float]]] = {
    "DIFF": _differences(lambda _before, first, _now, second: second - first),
    "DIFF_TIME": _differences(lambda before, _first, now, _second: float(now - before)),
    "RATE": _differences(lambda before, first, now, second: (second - first) / (now - before)),
    "RUNNING_SUM": _running_sum,
}
_OTHERS = ("AVG", "DATAPOINT_COUNT", "FILL", "FIRST", "IF", "LAST", "METRICS", "METRIC_COUNT",
           "PERIOD", "REMOVE_EMPTY", "SEARCH", "SLICE", "SORT", "TIME_SERIES")  # fmt: skip
SERVED = tuple(sorted([*_AGGREGATES, *_POINTWISE, *_CALENDAR, *_LINEWISE, *_OTHERS]))


def evaluate(expression: str, context: MathContext) -> Line | list[Line]:
    """The series, or the array of series, that an expression gives.

    Raises:
        AwsError: ValidationError naming what is malformed, of the wrong type, or not served.
    """
    value = _Evaluator(context).value(parse(expression))
    if isinstance(value, float):
        raise _refuse(
            f"Error in expression {expression!r}: the result must be a time series or an array of "
            "time series, not a number (see TIME_SERIES)"
        )
    return value


class _Evaluator:
    def __init__(self, context: MathContext) -> None:
        self._context = context

    def value(self, node: Node) -> Value:
        match node:
            case Number(value):
                return value
            case Name(name):
                return self._context.value(name)
            case Array(items):
                return self._array(items)
            case Negation(operand):
                return _combine(operator.sub, 0.0, self.value(operand))
            case Binary(sign, left, right):
                return _combine(_OPERATORS[sign], self.value(left), self.value(right))
            case Call(function, arguments):
                return self._call(function, arguments)
            case Text(value):
                raise _refuse(f"Error in expression: text {value!r} stands where none can be")

    def _array(self, items: tuple[Node, ...]) -> list[Line]:
        lines: list[Line] = []
        for item in items:
            value = self.value(item)
            if isinstance(value, float):
                raise _refuse("Error in expression: an array is of time series, not of numbers")
            lines += value if isinstance(value, list) else [value]
        return lines

    def _call(self, name: str, nodes: tuple[Node, ...]) -> Value:
        match name, nodes:
            case "METRICS", ():
                return list(self._context.metrics.values())
            case "METRICS", (Text(part),):
                return [line for key, line in self._context.metrics.items() if part in key]
            case "PERIOD", (Name(key),) if key in self._context.metrics:
                return float(self._context.metrics[key].period_s)
            case "FILL", (series, Name(("REPEAT" | "LINEAR") as how)):
                fill = self._repeated if how == "REPEAT" else self._interpolated
                return _each_line(fill, self.value(series))
            case "SORT", (array, Name(by), Name(order), *limit):
                return self._sort(self.value(array), by, order, [self.value(n) for n in limit])
            case "SEARCH", (Text(query), Text(statistic), *period):
                period_s = self._context.period_s
                if period:
                    period_s = int(_scalar(self.value(period[0]), name))
                return self._context.search(query, statistic, period_s)
        return self._apply(name, [self.value(node) for node in nodes])

    def _apply(self, name: str, arguments: list[Value]) -> Value:
        done: Value | None = None
        match arguments:
            case [Line() | list() as argument]:
                done = self._of_series(name, argument)
                if done is None and isinstance(argument, list):
                    done = self._of_array(name, argument, [])
            case [list() as lines, *numbers] if all(isinstance(n, float) for n in numbers):
                done = self._of_array(name, lines, [_scalar(n, name) for n in numbers])
            case [float() as number] if name == "TIME_SERIES":
                done = self._line(dict.fromkeys(self._context.starts, number))
        if name == "IF" and len(arguments) in {2, 3}:
            done = self._if(*arguments)
        if name == "FILL" and len(arguments) == 2:  # noqa: PLR2004 - series and filler
            series, filler = arguments
            if not isinstance(filler, list):
                done = _each_line(lambda line: self._filled(line, filler), series)
        if done is None:
            raise _refuse(
                f"metric math function {name} with these {len(arguments)} arguments is not served "
                f"locally: served are {', '.join(SERVED)}"
            )
        return done

    def _of_series(self, name: str, argument: Line | list[Line]) -> Value | None:
        """Functions of a series or an array alike."""
        if name in _POINTWISE:
            return _each_point(_POINTWISE[name], argument)
        if name in _LINEWISE:
            return _each_line(lambda line: _LINEWISE[name](line.points), argument)
        if name in _AGGREGATES:
            return self._aggregate(_AGGREGATES[name], argument)
        if name in _CALENDAR and isinstance(argument, Line):
            of, utc = _CALENDAR[name], dt.UTC
            starts = self._context.starts
            points = {at: float(of(dt.datetime.fromtimestamp(at, utc))) for at in starts}
            return self._line(points, argument.period_s)
        if name == "AVG":
            # Missing values count as 0, the guide says.
            count = len(argument) if isinstance(argument, list) else len(self._context.starts)
            return self._aggregate(lambda values: math.fsum(values) / max(count, 1), argument)
        if name == "DATAPOINT_COUNT":
            return self._aggregate(lambda values: float(len(values)), argument)
        return None

    def _of_array(self, name: str, lines: list[Line], numbers: list[float]) -> Value | None:
        """Functions of an array and numbers."""
        match name, numbers:
            case "METRIC_COUNT", []:
                return float(len(lines))
            case (("FIRST" | "LAST"), []):
                return lines[0 if name == "FIRST" else -1] if lines else self._line({})
            case "REMOVE_EMPTY", []:
                return [line for line in lines if line.points]
            case "SLICE", [first]:
                return lines[int(first) :]
            case "SLICE", [first, end]:
                return lines[int(first) : int(end)]
        return None

    def _line(self, points: dict[int, float], period_s: int | None = None) -> Line:
        return Line(points, self._context.period_s if period_s is None else period_s)

    def _aggregate(
        self, function: Callable[[list[float]], float], argument: Line | list[Line]
    ) -> Value:
        if isinstance(argument, Line):
            return float(function(list(argument.points.values()))) if argument.points else 0.0
        times = sorted({at for line in argument for at in line.points})
        return self._line(
            {
                at: float(function([line.points[at] for line in argument if at in line.points]))
                for at in times
            }
        )

    def _sort(self, value: Value, by: str, order: str, limit: list[Value]) -> list[Line]:
        if by not in {"AVG", "MIN", "MAX", "SUM"} or order not in {"ASC", "DESC"}:
            raise _refuse(f"SORT by {by} {order}: AVG, MIN, MAX or SUM, then ASC or DESC")
        if not isinstance(value, list) or len(limit) > 1:
            raise _refuse("SORT takes an array of time series, a function, an order and a limit")

        def rank(line: Line) -> float:
            result = self._apply(by, [line])
            return result if isinstance(result, float) else 0.0

        ordered = sorted(value, key=rank, reverse=order == "DESC")
        return ordered[: int(_scalar(limit[0], "SORT"))] if limit else ordered

    def _filled(self, line: Line, filler: float | Line) -> dict[int, float]:
        points = dict(line.points)
        for at in self._context.starts:
            value = filler if isinstance(filler, float) else filler.points.get(at)
            if at not in points and value is not None:
                points[at] = value
        return dict(sorted(points.items()))

    def _repeated(self, line: Line) -> dict[int, float]:
        filled: dict[int, float] = {}
        last: float | None = None
        for at in self._context.starts:
            last = line.points.get(at, last)
            if last is not None:
                filled[at] = last
        return filled

    def _interpolated(self, line: Line) -> dict[int, float]:
        filled = dict(line.points)
        for (before, first), (after, second) in itertools.pairwise(sorted(line.points.items())):
            for at in self._context.starts:
                if before < at < after:
                    filled[at] = first + (second - first) * (at - before) / (after - before)
        return dict(sorted(filled.items()))

    def _if(self, condition: Value, then: Value, otherwise: Value | None = None) -> Line:
        for value in (condition, then, otherwise):
            if isinstance(value, list):
                raise _refuse("IF takes time series and numbers, no arrays")
        if isinstance(condition, float):
            chosen = then if condition else otherwise
            if isinstance(chosen, Line):
                return self._line(dict(chosen.points))
            return self._line({} if chosen is None else dict.fromkeys(self._context.starts, chosen))  # type: ignore[arg-type]
        points: dict[int, float] = {}
        for at, test in sorted(condition.points.items()):  # type: ignore[union-attr]
            if test:
                points[at] = then.points.get(at, 0.0) if isinstance(then, Line) else then  # type: ignore[assignment]
            else:
                value = otherwise.points.get(at) if isinstance(otherwise, Line) else otherwise
                if value is not None:
                    points[at] = value  # type: ignore[assignment]
        return self._line(points)


def _scalar(value: Value, function: str) -> float:
    if not isinstance(value, float):
        raise _refuse(f"{function} takes a number here")
    return value


def _each_line(function: Callable[[Line], dict[int, float]], value: Value) -> Line | list[Line]:
    if isinstance(value, float):
        raise _refuse("Error in expression: a number stands where a time series is needed")
    if isinstance(value, list):
        return [line.with_points(function(line)) for line in value]
    return value.with_points(function(value))


def _each_point(function: Callable[[float], float], value: Line | list[Line]) -> Value:
    def apply(line: Line) -> dict[int, float]:
        points = {at: _result(function, number) for at, number in line.points.items()}
        return {at: number for at, number in points.items() if number is not None}

    return _each_line(apply, value)


def _combine(function: Callable[[float, float], Any], left: Value, right: Value) -> Value:
    if isinstance(left, list) and isinstance(right, list):
        raise _refuse("Error in expression: an operator stands between two arrays of time series")
    if isinstance(left, list):
        return [_lines(function, line, right) for line in left]  # type: ignore[arg-type]
    if isinstance(right, list):
        return [_lines(function, left, line) for line in right]
    if isinstance(left, float) and isinstance(right, float):
        result = _result(function, left, right)
        if result is None:
            raise _refuse("Error in expression: a number is divided by zero or too large")
        return result
    return _lines(function, left, right)


def _lines(
    function: Callable[[float, float], Any], left: Line | float, right: Line | float
) -> Line:
    """An operator between two lines, or a line and a number; the left line gives the label."""
    shown = left if isinstance(left, Line) else right
    times: set[int] = set()
    for side in (left, right):
        if isinstance(side, Line):
            times |= side.points.keys()
    points = {at: _result(function, _at(left, at), _at(right, at)) for at in sorted(times)}
    kept = {at: value for at, value in points.items() if value is not None}
    return shown.with_points(kept)  # type: ignore[union-attr]


def _at(side: Line | float, at: int) -> float:
    return side if isinstance(side, float) else side.points.get(at, 0.0)


def _result(function: Callable[..., Any], *numbers: float) -> float | None:
    """The result, or None where there is none (a division by zero leaves no data point)."""
    try:
        result = function(*numbers)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    if isinstance(result, complex) or not math.isfinite(result):
        return None
    return float(result)


def _refuse(message: str) -> AwsError:
    return AwsError("ValidationError", message)

"""Metric math: the arithmetic and the functions of CloudWatch that the local cloud serves.

An expression is read with Python's own parser, whose syntax for names, numbers, lists, calls and
most operators is that of metric math; every node that is not on the list below is refused.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Series = dict[int, float]
Value = float | Series | list[Any]


@dataclass(frozen=True, slots=True)
class MathContext:
    """What an expression can refer to.

    Attributes:
        series: Values by period start, by query id.
        starts: Every period start of the evaluated range, ascending.
        period_s: Length of a period.
    """

    series: Mapping[str, Series]
    starts: list[int]
    period_s: int


_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "AVG": lambda values: sum(values) / len(values),
    "MIN": min,
    "MAX": max,
}
# Operators that Python spells otherwise.
_SPELLINGS = (
    (re.compile(r"\bAND\b|&&"), " and "),
    (re.compile(r"\bOR\b|\|\|"), " or "),
    (re.compile(r"\^"), "**"),
)
SERVED = (*_AGGREGATES, "ABS", "CEIL", "FLOOR", "FILL", "IF", "METRICS", "PERIOD", "RATE")


def evaluate(expression: str, context: MathContext) -> Series:
    """The series that an expression gives over the context's periods.

    Raises:
        AwsError: ValidationError naming what is malformed or not served.
    """
    text = expression
    for spelling, python in _SPELLINGS:
        text = spelling.sub(python, text)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise _refuse(f"Error in expression {expression!r}: {error.msg}") from error
    value = _Evaluator(context).value(tree.body)
    if isinstance(value, list):
        raise _refuse(f"expression {expression!r} gives several series: one is served")
    if isinstance(value, dict):
        return value
    return dict.fromkeys(context.starts, value)


class _Evaluator:
    def __init__(self, context: MathContext) -> None:
        self._context = context

    def value(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                if name not in self._context.series:
                    raise _refuse(f"expression refers to unknown id {name!r}")
                return self._context.series[name]
            case ast.List(elts=elements):
                return [self.value(element) for element in elements]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _combine(operator.sub, 0.0, self.value(operand))
            case ast.BinOp(left=left, op=binary, right=right) if type(binary) in _BINARY:
                return _combine(_BINARY[type(binary)], self.value(left), self.value(right))
            case ast.Compare(left=left, ops=[compare], comparators=[right]):
                function = _COMPARE.get(type(compare))
                if function:
                    return _combine(function, self.value(left), self.value(right))
            case ast.BoolOp(op=joined, values=values):
                both = isinstance(joined, ast.And)
                result = self.value(values[0])
                for other in values[1:]:
                    result = _combine(_and if both else _or, result, self.value(other))
                return result
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
        raise _refuse(f"metric math {ast.unparse(node)!r} is not served locally")

    def _call(self, name: str, nodes: list[ast.expr]) -> Value:
        if name == "METRICS" and not nodes:
            return list(self._context.series.values())
        arguments: list[Any] = [
            node.id if name == "FILL" and index == 1 and isinstance(node, ast.Name)
            else self.value(node)
            for index, node in enumerate(nodes)
        ]  # fmt: skip
        match name, arguments:
            case (("SUM" | "AVG" | "MIN" | "MAX"), [argument]):
                return self._aggregate(_AGGREGATES[name], argument)
            case "ABS", [argument]:
                return _each(abs, argument)
            case "CEIL", [argument]:
                return _each(lambda value: float(-(-value // 1)), argument)
            case "FLOOR", [argument]:
                return _each(lambda value: float(value // 1), argument)
            case "PERIOD", [dict()]:
                return float(self._context.period_s)
            case "RATE", [dict() as series]:
                return self._rate(series)
            case "FILL", [dict() as series, filler]:
                return self._fill(series, filler)
            case "IF", [condition, then]:
                return self._if(condition, then, None)
            case "IF", [condition, then, otherwise]:
                return self._if(condition, then, otherwise)
        raise _refuse(
            f"metric math function {name} with {len(nodes)} arguments is not served locally: "
            f"served are {', '.join(SERVED)}"
        )

    def _aggregate(self, function: Callable[[list[float]], float], argument: Value) -> Value:
        if isinstance(argument, dict):
            return function(list(argument.values())) if argument else {}
        if isinstance(argument, list):
            every = [series for series in argument if isinstance(series, dict)]
            starts = sorted({start for series in every for start in series})
            return {
                start: function([series[start] for series in every if start in series])
                for start in starts
            }
        return argument

    def _rate(self, series: Series) -> Series:
        starts = sorted(series)
        return {
            now: (series[now] - series[before]) / (now - before)
            for before, now in itertools.pairwise(starts)
        }

    def _fill(self, series: Series, filler: Any) -> Series:
        if isinstance(filler, float):
            return {start: series.get(start, filler) for start in self._context.starts}
        if filler != "REPEAT":
            raise _refuse(f"FILL with {filler!r} is not served locally: a number or REPEAT is")
        filled: Series = {}
        last: float | None = None
        for start in self._context.starts:
            last = series.get(start, last) if last is not None else series.get(start)
            if last is not None:
                filled[start] = last
        return filled

    def _if(self, condition: Value, then: Value, otherwise: Value | None) -> Series:
        chosen: Series = {}
        for start in self._context.starts:
            test = _at(condition, start)
            if test is None:
                continue
            branch = then if test else otherwise
            value = None if branch is None else _at(branch, start)
            if value is not None:
                chosen[start] = value
        return chosen


def _and(left: float, right: float) -> bool:
    return bool(left) and bool(right)


def _or(left: float, right: float) -> bool:
    return bool(left) or bool(right)


def _at(value: Value, start: int) -> float | None:
    if isinstance(value, list):
        raise _refuse("a list of series stands where one is needed")
    return value.get(start) if isinstance(value, dict) else value


def _each(function: Callable[[float], float], value: Value) -> Value:
    if isinstance(value, list):
        return [_each(function, part) for part in value]
    if isinstance(value, dict):
        return {start: function(number) for start, number in value.items()}
    return function(value)


def _combine(function: Callable[[float, float], Any], left: Value, right: Value) -> Value:
    if isinstance(left, list):
        return [_combine(function, part, right) for part in left]
    if isinstance(right, list):
        return [_combine(function, left, part) for part in right]
    if not isinstance(left, dict) and not isinstance(right, dict):
        return _apply(function, left, right) or 0.0
    starts = set(left if isinstance(left, dict) else right)  # type: ignore[arg-type]
    if isinstance(left, dict) and isinstance(right, dict):
        starts &= set(right)
    combined = {start: _apply(function, _at(left, start), _at(right, start)) for start in starts}
    return {start: combined[start] for start in sorted(starts) if combined[start] is not None}  # type: ignore[misc]


def _apply(
    function: Callable[[float, float], Any], left: float | None, right: float | None
) -> float | None:
    """The result, or None where there is none (a division by zero leaves no data point)."""
    if left is None or right is None:
        return None
    try:
        return float(function(left, right))
    except (ZeroDivisionError, OverflowError):
        return None


def _refuse(message: str) -> AwsError:
    return AwsError("ValidationError", message)

"""Operators of the rules' SQL as functions of a message. Undefined goes through all of them."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from localcloud.iot.sql.values import UNDEFINED, Context, number, plain, text, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.iot.sql.functions import Function

    Expression = Callable[[Context], Any]

_ORDERED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
COMPARISONS = {"=", "<>", "!=", *_ORDERED}
_MOST = 10.0**300


def truth(value: Any) -> Any:
    """As a condition takes it: a Boolean, or the text of one; otherwise Undefined."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    return UNDEFINED


def both(left: Expression, right: Expression) -> Expression:
    """AND."""

    def of(context: Context) -> Any:
        one, other = truth(left(context)), truth(right(context))
        return UNDEFINED if UNDEFINED in (one, other) else one and other

    return of


def either(left: Expression, right: Expression) -> Expression:
    """OR."""

    def of(context: Context) -> Any:
        one, other = truth(left(context)), truth(right(context))
        return UNDEFINED if UNDEFINED in (one, other) else one or other

    return of


def negated(inner: Expression) -> Expression:
    """NOT."""

    def of(context: Context) -> Any:
        found = truth(inner(context))
        return found if found is UNDEFINED else not found

    return of


def equal(one: Any, other: Any) -> Any:
    """`=`: values of different types are different, but for numbers in texts."""
    if UNDEFINED in (one, other):
        return UNDEFINED
    if isinstance(one, str) != isinstance(other, str) and None not in (one, other):
        first, second = number(one), number(other)
        return False if UNDEFINED in (first, second) else first == second
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    return bool(one == other)


def compared(sign: str, left: Expression, right: Expression) -> Expression:
    """`=`, `<>`, `<`, `<=`, `>` and `>=`."""

    def same(context: Context) -> Any:
        return equal(left(context), right(context))

    if sign == "=":
        return same
    if sign in {"<>", "!="}:
        return negated(same)
    compare = _ORDERED[sign]

    def of(context: Context) -> Any:
        one, other = left(context), right(context)
        if isinstance(one, str) and isinstance(other, str) and UNDEFINED in (
            number(one), number(other)
        ):  # fmt: skip
            return compare(one, other)
        first, second = number(one), number(other)
        return UNDEFINED if UNDEFINED in (first, second) else compare(first, second)

    return of


def contained(left: Expression, right: Expression) -> Expression:
    """IN an array."""

    def of(context: Context) -> Any:
        one, several = left(context), right(context)
        if one is UNDEFINED or not isinstance(several, list):
            return UNDEFINED
        return any(equal(one, other) is True for other in several)

    return of


def calculated(sign: str, left: Expression, right: Expression) -> Expression:
    """`+`, `-`, `*`, `/` and `%`; `+` joins where one of both is a text that is no number."""

    def of(context: Context) -> Any:
        one, other = left(context), right(context)
        if sign == "+" and (isinstance(one, str) or isinstance(other, str)):
            first, second = text(one), text(other)
            return UNDEFINED if UNDEFINED in (first, second) else first + second
        first, second = number(one), number(other)
        if UNDEFINED in (first, second) or (sign in "/%" and not second):
            return UNDEFINED
        try:
            return whole(_calculate(sign, first, second))
        except OverflowError:
            return UNDEFINED

    return of


def _calculate(sign: str, one: float, other: float) -> float:
    if sign == "+":
        return one + other
    if sign == "-":
        return one - other
    if sign == "*":
        if abs(one) > _MOST or abs(other) > _MOST:
            raise OverflowError
        return one * other
    if sign == "/":
        return one / other
    return math.fmod(one, other)


def document(context: Context) -> Any:
    """`*`: the whole payload."""
    return context.document


def member(name: str) -> Expression:
    """A member of the payload."""

    def of(context: Context) -> Any:
        found = context.document
        return found.get(name, UNDEFINED) if isinstance(found, dict) else UNDEFINED

    return of


def step(inner: Expression, place: Expression) -> Expression:
    """A member of an object or an array."""
    return lambda context: get(inner(context), place(context))


def get(value: Any, place: Any) -> Any:
    """`get(value, place)`: what is there, or Undefined."""
    if isinstance(value, dict) and isinstance(place, str):
        return value.get(place, UNDEFINED)
    if isinstance(value, (list, str)) and isinstance(place, int) and not isinstance(place, bool):
        return value[place] if 0 <= place < len(value) else UNDEFINED
    return UNDEFINED


def array(items: Sequence[Expression]) -> Expression:
    """`[a, b]`."""
    return lambda context: [item(context) for item in items]


def object_of(members: Sequence[tuple[str, Expression]]) -> Expression:
    """`{name: a}`."""
    return lambda context: plain({name: item(context) for name, item in members})


def chosen(
    subject: Expression | None,
    branches: Sequence[tuple[Expression, Expression]],
    otherwise: Expression,
) -> Expression:
    """CASE."""

    def of(context: Context) -> Any:
        value = None if subject is None else subject(context)
        for when, then in branches:
            found = when(context)
            holds = truth(found) if subject is None else equal(value, found)
            if holds is True:
                return then(context)
        return otherwise(context)

    return of


def called(function: Function, arguments: Sequence[Expression]) -> Expression:
    """A function."""
    return lambda context: function.call(context, [one(context) for one in arguments])

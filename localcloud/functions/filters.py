"""Filter criteria of event source mappings: which records a function is sent.

Follows "Control which events Lambda sends to your function" of the Lambda developer guide: the rules
of EventBridge patterns as far as that page lists them. Numbers are compared by their text, as it says.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Self

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.seams import StreamRecord

    Rule = Callable[[Any], bool]
    Matcher = Callable[[Any], bool]

MAX_FILTERS = 5
MAX_PATTERN = 4096
_MISSING = object()
_COMPARED = {
    "=": lambda value, bound: value == bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
}


class _Number(float):
    """A JSON number that knows how it was written."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_int=_Number, parse_float=_Number)


class RecordFilter:
    """Filters of a mapping, of which one has to match.

    Args:
        criteria: The API's FilterCriteria structure; None, empty or without filters takes all.

    Raises:
        AwsError: InvalidParameterValueException that names what is wrong.
    """

    def __init__(self, criteria: dict[str, Any] | None) -> None:
        filters = (criteria or {}).get("Filters") or []
        if len(filters) > MAX_FILTERS:
            raise _invalid(f"there are more than {MAX_FILTERS} filters")
        self._patterns = [_pattern(one.get("Pattern") or "{}") for one in filters]

    def __bool__(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._patterns)

    def takes(self, record: StreamRecord, shard: str, source: str) -> bool:
        """Whether one of the filters matches the record."""
        value: dict[str, Any] = {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key,
            "sequenceNumber": record.sequence_number,
            "approximateArrivalTimestamp": _Number(repr(record.arrival_ms / 1000)),
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard}:{record.sequence_number}",
            "eventName": "aws:kinesis:record",
            "eventSourceARN": source,
        }
        try:
            value["data"] = _loads(base64.b64decode(record.data))
        except (ValueError, RecursionError):
            # Data that is not JSON matches no pattern of data.
            value["data"] = _MISSING
        return any(
            matches(value) and not (has_data and value["data"] is _MISSING)
            for matches, has_data in self._patterns
        )


def _invalid(message: str) -> AwsError:
    return AwsError(
        "InvalidParameterValueException", f"Invalid filter pattern definition: {message}"
    )


def _pattern(text: str) -> tuple[Matcher, bool]:
    """(matcher, whether it looks at data) of one filter's pattern."""
    if len(text) > MAX_PATTERN:
        raise _invalid(f"a pattern has more than {MAX_PATTERN} characters")
    try:
        pattern = _loads(text)
    except ValueError as error:
        raise _invalid(f"{text[:100]!r} is not JSON ({error})") from error
    if not isinstance(pattern, dict):
        raise _invalid("a pattern is an object")
    return _object(pattern, top=True), '"data"' in text


def _object(pattern: dict[str, Any], *, top: bool = False) -> Matcher:
    """A matcher of an object: every field has to match."""
    parts: list[Matcher] = []
    for name, rule in pattern.items():
        if name == "$or":
            parts.append(_any_of(rule))
        elif isinstance(rule, dict):
            parts.append(_within(name, _object(rule)))
        elif top and name == "data":
            raise _invalid("the pattern of data must be an object")
        elif isinstance(rule, list) and rule:
            parts.append(_field(name, [_rule(one) for one in rule]))
        else:
            raise _invalid(f"{name} must have an object, or a list of rules")

    def matches(value: Any) -> bool:
        return all(part(value) for part in parts)

    return matches


def _any_of(alternatives: Any) -> Matcher:
    if not isinstance(alternatives, list) or len(alternatives) < 2:  # noqa: PLR2004 - or what?
        raise _invalid("$or must have a list of at least two patterns")
    if not all(isinstance(one, dict) and one for one in alternatives):
        raise _invalid("an alternative of $or is an object")
    matchers = [_object(one) for one in alternatives]
    return lambda value: any(matches(value) for matches in matchers)


def _within(name: str, inner: Matcher) -> Matcher:
    def matches(value: Any) -> bool:
        member = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
        if isinstance(member, list):
            return any(inner(element) for element in member)
        # Absence can be asked for (exists: false), so it is passed on.
        return inner(member)

    return matches


def _field(name: str, rules: list[Rule]) -> Matcher:
    def matches(value: Any) -> bool:
        member = value.get(name, _MISSING) if isinstance(value, dict) else _MISSING
        members = member if isinstance(member, list) and member else [member]
        return any(rule(one) for rule in rules for one in members)

    return matches


def _rule(rule: Any) -> Rule:
    if not isinstance(rule, dict):
        if isinstance(rule, list):
            raise _invalid("a list within a list of rules")
        return lambda value: _same(value, rule)
    if len(rule) != 1:
        raise _invalid(f"a rule has one operator, not {len(rule)}")
    ((operator, operand),) = rule.items()
    match operator:
        case "exists":
            if not isinstance(operand, bool):
                raise _invalid("exists must be true or false")
            return lambda value: _is_leaf(value) is operand
        case "prefix" | "suffix" | "equals-ignore-case":
            return _text_rule(operator, operand)
        case "anything-but":
            return _anything_but(operand)
        case "numeric":
            return _numeric(operand)
    raise _invalid(f"the operator {operator} is not one that Lambda filters have")


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, _Number):
        return isinstance(value, _Number) and value.text == wanted.text
    return type(value) is type(wanted) and bool(value == wanted)


def _is_leaf(value: Any) -> bool:
    return value is not _MISSING and not isinstance(value, dict | list)


def _text_rule(operator: str, operand: Any) -> Rule:
    if not isinstance(operand, str):
        raise _invalid(f"{operator} must have a string")
    folded = operand.casefold()
    match operator:
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(operand)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(operand)
    return lambda value: isinstance(value, str) and value.casefold() == folded


def _anything_but(operand: Any) -> Rule:
    if isinstance(operand, dict):
        ((operator, text),) = operand.items() if len(operand) == 1 else ((None, None),)
        if operator not in {"prefix", "suffix", "equals-ignore-case"}:
            raise _invalid("anything-but has a value, a list, or one rule about text")
        refused = [_text_rule(str(operator), text)]
    else:
        values = operand if isinstance(operand, list) else [operand]
        if not values or not all(isinstance(one, str | _Number) for one in values):
            raise _invalid("anything-but must have strings or numbers")
        refused = [_rule(one) for one in values]
    return lambda value: _is_leaf(value) and not any(rule(value) for rule in refused)


def _numeric(operand: Any) -> Rule:
    pairs = (
        list(zip(operand[::2], operand[1::2], strict=False)) if isinstance(operand, list) else []
    )
    if not pairs or len(operand) % 2 or len(pairs) > 2:  # noqa: PLR2004 - a range has two bounds
        raise _invalid("numeric must have a comparison, or two for a range")
    for operator, bound in pairs:
        if operator not in _COMPARED or not isinstance(bound, _Number):
            raise _invalid(f"numeric cannot compare by {operator!r} with {bound!r}")
    return lambda value: (
        isinstance(value, _Number)
        and all(_COMPARED[operator](float(value), float(bound)) for operator, bound in pairs)
    )

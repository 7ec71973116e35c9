"""Condition blocks of policies: operators, qualifiers and what they are held against.

Follows "IAM JSON policy elements: Condition" of the IAM user guide.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Values = tuple[str, ...]
_QUALIFIERS = ("ForAllValues:", "ForAnyValue:")
_IF_EXISTS = "IfExists"
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LITERALS = {"*", "?", "$"}
# Wildcards that stand for themselves, as private characters until a pattern is made of them.
_LITERAL = {ord("*"): "\ue000", ord("?"): "\ue001"}
_MEANT = {"\ue000": re.escape("*"), "\ue001": re.escape("?"), "*": ".*", "?": "."}
_ARN_PARTS = 6


def holds(
    block: Mapping[str, Mapping[str, Any]], context: Mapping[str, Values], *, otherwise: bool
) -> bool:
    """Whether all conditions of a block hold.

    Args:
        block: Operator to condition keys to values.
        context: What is known of the request, by lower-case condition key.
        otherwise: The answer of an operator that is not known.
    """
    return all(
        _holds(operator, key, _texts(wanted), context, otherwise=otherwise)
        for operator, keys in block.items()
        for key, wanted in keys.items()
    )


def unknown_operators(block: Mapping[str, Any]) -> list[str]:
    """The operators of a block that are not served."""
    return [operator for operator in block if _plain(operator) not in {*OPERATORS, "null"}]


def substituted(text: str, context: Mapping[str, Values], *, pattern: bool = False) -> str | None:
    """A value with its policy variables replaced; None where one is not known.

    Args:
        text: The value.
        context: What is known of the request, by lower-case condition key.
        pattern: Whether `*` and `?` match in it: those that variables stand for do not.
    """
    if "${" not in text:
        return text
    missing = False

    def replace(match: re.Match[str]) -> str:
        nonlocal missing
        name, _, default = match.group(1).partition(",")
        values = context.get(name.strip().lower(), ())
        if name in _LITERALS:
            found = name
        elif len(values) == 1:
            found = values[0]
        elif default:
            found = default.strip().strip("'")
        else:
            missing = True
            return ""
        return found.translate(_LITERAL) if pattern else found

    replaced = _VARIABLE.sub(replace, text)
    return None if missing else replaced


@lru_cache(maxsize=4096)
def wildcard(pattern: str) -> re.Pattern[str]:
    """A pattern with `*` and `?` as a regular expression over a whole text."""
    parts = (_MEANT.get(c) or re.escape(c) for c in pattern)
    return re.compile("".join(parts), re.DOTALL)


def like(pattern: str, text: str) -> bool:
    """Whether a text matches a pattern with `*` and `?`."""
    return pattern == text or wildcard(pattern).fullmatch(text) is not None


def arn_like(pattern: str, text: str) -> bool:
    """Whether an ARN matches a pattern, part by part: a wildcard does not reach over a colon."""
    wanted, given = pattern.split(":", _ARN_PARTS - 1), text.split(":", _ARN_PARTS - 1)
    return len(wanted) == len(given) and all(map(like, wanted, given))


def _holds(
    operator: str, key: str, wanted: Sequence[str], context: Mapping[str, Values],
    *, otherwise: bool,
) -> bool:  # fmt: skip
    plain = _plain(operator)
    given = context.get(key.lower())
    if plain == "null":
        return any((given is None) == (text.lower() == "true") for text in wanted)
    compare = OPERATORS.get(plain)
    if compare is None:
        return otherwise
    negated = plain.startswith(("stringnot", "numericnot", "datenot", "notip", "arnnot"))
    if not given:
        if operator.startswith(_QUALIFIERS):
            return operator.startswith("ForAllValues:") or operator.endswith(_IF_EXISTS)
        return negated or operator.endswith(_IF_EXISTS)
    pattern = plain.endswith("like") or plain.startswith("arn")
    expected = [
        text for one in wanted if (text := substituted(one, context, pattern=pattern)) is not None
    ]

    def one(value: str) -> bool:
        if negated:
            return all(compare(text, value) for text in expected)
        return any(compare(text, value) for text in expected)

    if operator.startswith("ForAnyValue:"):
        return any(map(one, given))
    return all(map(one, given))


def _plain(operator: str) -> str:
    for qualifier in _QUALIFIERS:
        operator = operator.removeprefix(qualifier)
    return operator.removesuffix(_IF_EXISTS).lower()


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(v).lower() if isinstance(v, bool) else str(v) for v in values]


def _number(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def compare(wanted: str, given: str) -> bool:
        try:
            return test(float(given), float(wanted))
        except ValueError:
            return False

    return compare


def _date(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def compare(wanted: str, given: str) -> bool:
        try:
            return test(_epoch_s(given), _epoch_s(wanted))
        except ValueError:
            return False

    return compare


def _epoch_s(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    moment = dt.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _in_network(wanted: str, given: str) -> bool:
    try:
        return ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "stringequals": lambda wanted, given: wanted == given,
    "stringnotequals": lambda wanted, given: wanted != given,
    "stringequalsignorecase": lambda wanted, given: wanted.lower() == given.lower(),
    "stringnotequalsignorecase": lambda wanted, given: wanted.lower() != given.lower(),
    "stringlike": like,
    "stringnotlike": lambda wanted, given: not like(wanted, given),
    "numericequals": _number(lambda given, wanted: given == wanted),
    "numericnotequals": _number(lambda given, wanted: given != wanted),
    "numericlessthan": _number(lambda given, wanted: given < wanted),
    "numericlessthanequals": _number(lambda given, wanted: given <= wanted),
    "numericgreaterthan": _number(lambda given, wanted: given > wanted),
    "numericgreaterthanequals": _number(lambda given, wanted: given >= wanted),
    "dateequals": _date(lambda given, wanted: given == wanted),
    "datenotequals": _date(lambda given, wanted: given != wanted),
    "datelessthan": _date(lambda given, wanted: given < wanted),
    "datelessthanequals": _date(lambda given, wanted: given <= wanted),
    "dategreaterthan": _date(lambda given, wanted: given > wanted),
    "dategreaterthanequals": _date(lambda given, wanted: given >= wanted),
    "bool": lambda wanted, given: wanted.lower() == given.lower(),
    "binaryequals": lambda wanted, given: wanted == given,
    "ipaddress": _in_network,
    "notipaddress": lambda wanted, given: not _in_network(wanted, given),
    "arnequals": arn_like,
    "arnlike": arn_like,
    "arnnotequals": lambda wanted, given: not arn_like(wanted, given),
    "arnnotlike": lambda wanted, given: not arn_like(wanted, given),
}

"""AlarmRule: the expression over other alarms' states that a composite alarm evaluates.

Follows "Create a composite alarm" of the CloudWatch user guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[["Callable[[str], str]"], bool]

MAX_CHILDREN = 100
MAX_ELEMENTS = 500
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<test>ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*
        (?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<bare>[^\s()"']+))\s*\)
    | (?P<word>AND|OR|NOT|TRUE|FALSE|\(|\))
    )""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """A rule that was read.

    Attributes:
        children: Alarms as the rule names them, by name or ARN, in order, each once.
        holds: Whether the rule is true, given the state of an alarm by what the rule calls it.
    """

    children: tuple[str, ...]
    holds: Callable[[Callable[[str], str]], bool]


def parse_rule(text: str) -> AlarmRule:
    """Reads an AlarmRule.

    Raises:
        AwsError: ValidationError, where it breaks the grammar or its limits.
    """
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        self._children: dict[str, None] = {}
        self._at = at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found:
                raise self._error()
            if found.group("word"):
                self._tokens.append((found.group("word").upper(), ""))
            else:
                child = found.group("double") or found.group("single") or found.group("bare")
                self._tokens.append((found.group("test").upper(), child))
                self._children[child] = None
            at = found.end()

    def whole(self) -> AlarmRule:
        elements = sum(kind not in {"AND", "OR", "NOT", ")"} for kind, _ in self._tokens)
        if len(self._children) > MAX_CHILDREN or elements > MAX_ELEMENTS:
            raise AwsError(
                "ValidationError",
                f"AlarmRule has more than {MAX_CHILDREN} alarms or {MAX_ELEMENTS} elements",
            )
        test = self._either()
        if self._at < len(self._tokens):
            raise self._error()
        return AlarmRule(tuple(self._children), test)

    def _either(self) -> Test:
        tests = [self._all()]
        while self._peek() == "OR":
            self._at += 1
            tests.append(self._all())
        return lambda state_of: any(test(state_of) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._peek() == "AND":
            self._at += 1
            tests.append(self._one())
        return lambda state_of: all(test(state_of) for test in tests)

    def _one(self) -> Test:
        kind = self._peek()
        if not kind:
            raise self._error()
        child = self._tokens[self._at][1]
        self._at += 1
        match kind:
            case "NOT":
                test = self._one()
                return lambda state_of: not test(state_of)
            case "(":
                test = self._either()
                if self._peek() != ")":
                    raise self._error()
                self._at += 1
                return test
            case "TRUE" | "FALSE":
                return lambda _: kind == "TRUE"
            case "ALARM" | "OK" | "INSUFFICIENT_DATA":
                return lambda state_of: state_of(child) == kind
        raise self._error()

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _error(self) -> AwsError:
        return AwsError("ValidationError", f"Invalid alarm rule expression: {self._text!r}")

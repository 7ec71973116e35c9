"""Filter patterns of CloudWatch Logs: terms, JSON selectors, space-delimited fields.

Follows "Filter pattern syntax for metric filters" of the CloudWatch Logs user guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from localcloud.logs.conditions import OPERATORS, comparison, invalid, regex, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.logs.conditions import Test

    # A JSON value, or a list of fields, against a condition.
    Condition = Callable[[Any], bool]

MAX_PATTERN = 1024
_TERM = re.compile(r'([-?]?)(?:"((?:\\.|[^"\\])*)"|%([^%]*)%|([^\s"]+))\s*')
_PLAIN = re.compile(r"[\w]+")
_JSON_TOKEN = re.compile(
    r"\s*(?:(?P<mark>&&|\|\||[()])|(?P<selector>\$(?:\.[\w\-*]+|\[\d+\]|\[\*\]|\['[^']*'\]"
    r'|\["[^"]*"\])*)|(?P<operator>!=|>=|<=|=|>|<)|(?P<value>"(?:\\.|[^"\\])*"|%[^%]*%'
    r"|[^\s()&|=<>!]+))"
)
_STEP = re.compile(r"\.([\w\-*]+)|\[(\d+|\*)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")
_FIELD = re.compile(r'\[([^\]]*)\]|"([^"]*)"|(\S+)')
_CONDITION = re.compile(
    r'\s*([\w$\-]*)\s*(!=|>=|<=|=|>|<)\s*("(?:\\.|[^"\\])*"|%[^%]*%|[^\s&|]+)\s*(&&|\|\||$)'
)
_MISSING = object()


class Found(Protocol):
    """What a pattern found in a message that it matches."""

    def get(self, reference: str) -> Any:
        """The value of `$.selector` or `$field`; None where there is none."""


class Pattern(Protocol):
    """A compiled pattern."""

    def find(self, message: str) -> Found | None:
        """None where the message does not match."""


def compile_pattern(source: str) -> Pattern:
    """The pattern of a text.

    Raises:
        AwsError: InvalidParameterException.
    """
    source = source.strip()
    if len(source) > MAX_PATTERN:
        raise invalid(f"it has more than {MAX_PATTERN} characters")
    if source.startswith("{"):
        return JsonPattern(source)
    if source.startswith("["):
        return SpacePattern(source)
    return TextPattern(source)


class Nothing:
    """Of a pattern that extracts nothing."""

    def get(self, _reference: str) -> Any:
        """Nothing."""
        return None


class TextPattern:
    """Terms: all that stand alone, none after a minus sign, or one of those after question marks.

    Args:
        source: The pattern; empty matches everything.
    """

    def __init__(self, source: str) -> None:
        self._every: list[Callable[[str], bool]] = []
        self._none: list[Callable[[str], bool]] = []
        self._some: list[Callable[[str], bool]] = []
        at = 0
        while at < len(source):
            found = _TERM.match(source, at)
            if found is None:
                raise invalid(f"a quotation mark is not closed in {source[at:]!r}")
            at = found.end()
            sign, quoted, expression, plain = found.groups()
            kind = {"": self._every, "-": self._none, "?": self._some}[sign]
            kind.append(_term(quoted, expression, plain))

    def find(self, message: str) -> Found | None:
        """See `Pattern`."""
        if self._some and not (self._every or self._none):
            return Nothing() if any(term(message) for term in self._some) else None
        if all(term(message) for term in self._every) and not any(
            term(message) for term in self._none
        ):
            return Nothing()
        return None


def _term(quoted: str | None, expression: str | None, plain: str | None) -> Callable[[str], bool]:
    if expression is not None:
        compiled = regex(expression)
        return lambda message: compiled.search(message) is not None
    wanted = unquote(f'"{quoted}"') if quoted is not None else str(plain)
    if quoted is None and not _PLAIN.fullmatch(wanted):
        raise invalid(f"Invalid character(s) in term '{wanted}': put it in quotation marks")
    return lambda message: wanted in message


class JsonPattern:
    """A condition on a JSON object.

    Args:
        source: The pattern with its braces.
    """

    def __init__(self, source: str) -> None:
        if not source.endswith("}"):
            raise invalid("the closing brace is missing")
        self._tokens = _json_tokens(source[1:-1])
        self._at = 0
        self._condition = self._either()
        if self._at != len(self._tokens):
            raise invalid(f"{self._tokens[self._at][1]!r} is not expected")

    def find(self, message: str) -> Found | None:
        """See `Pattern`."""
        if not message.lstrip().startswith("{"):
            return None
        try:
            value = orjson.loads(message)
        except orjson.JSONDecodeError:
            return None
        return JsonFound(value) if self._condition(value) else None

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._peek() == "||":
            self._at += 1
            parts.append(self._both())
        return lambda value: any(part(value) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._peek() == "&&":
            self._at += 1
            parts.append(self._one())
        return lambda value: all(part(value) for part in parts)

    def _one(self) -> Condition:
        if self._peek() == "(":
            self._at += 1
            inner = self._either()
            if self._peek() != ")":
                raise invalid("a closing parenthesis is missing")
            self._at += 1
            return inner
        select = _selector(self._next("selector"))
        word = self._peek()
        if word in OPERATORS:
            self._at += 1
            test = comparison(str(word), self._next("value"))
            return lambda value: any(_scalar(one) and test(one) for one in select(value))
        return self._word(select)

    def _word(self, select: Callable[[Any], Sequence[Any]]) -> Condition:
        first, second = self._next("value").upper(), self._next("value").upper()
        named = {"NULL": None, "TRUE": True, "FALSE": False}
        if first == "IS" and second in named:
            wanted = named[second]
            return lambda value: any(one is wanted for one in select(value))
        if first == "NOT" and second == "EXISTS":
            return lambda value: not select(value)
        raise invalid(f"{first} {second} is no condition")

    def _peek(self) -> str | None:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else None

    def _next(self, kind: str) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at][0] != kind:
            raise invalid(f"a {kind} is expected before {self._peek() or 'the end'!r}")
        self._at += 1
        return self._tokens[self._at - 1][1]


class JsonFound:
    """The members of a message.

    Args:
        value: The JSON value.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self, reference: str) -> Any:
        """See `Found`."""
        if not reference.startswith("$"):
            return None
        for one in _selector(reference)(self._value):
            if _scalar(one):
                return one
        return None


def _json_tokens(source: str) -> list[tuple[str, str]]:
    tokens = []
    at = 0
    source = source.strip()
    while at < len(source):
        found = _JSON_TOKEN.match(source, at)
        if found is None or found.lastgroup is None:
            raise invalid(f"{source[at:][:40]!r} cannot be read")
        tokens.append((found.lastgroup, found.group(found.lastgroup)))
        at = found.end()
    if not tokens:
        raise invalid("there is no condition between the braces")
    return tokens


def _selector(source: str) -> Callable[[Any], Sequence[Any]]:
    """A function that gives the values at a path: none, one, or several with a wildcard."""
    steps: list[str | int] = []
    at = 1
    while at < len(source):
        found = _STEP.match(source, at)
        if found is None:
            raise invalid(f"the selector {source} cannot be read")
        name, index, single, double = found.groups()
        if index is not None and index != "*":
            steps.append(int(index))
        else:
            steps.append(next(s for s in (name, index, single, double) if s is not None))
        at = found.end()
    if steps.count("*") > 1:
        raise invalid(f"the selector {source} has more than one wildcard")

    def select(value: Any) -> Sequence[Any]:
        values = [value]
        for step in steps:
            values = [inner for one in values for inner in _into(one, step)]
        return values

    return select


def _into(value: Any, step: str | int) -> Sequence[Any]:
    if isinstance(step, int):
        return [value[step]] if isinstance(value, list) and step < len(value) else []
    if isinstance(value, dict):
        if step == "*":
            return list(value.values())
        return [value[step]] if step in value else []
    return value if step == "*" and isinstance(value, list) else []


def _scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


class SpacePattern:
    """Conditions on the fields of a line; brackets and quotation marks hold a field together.

    Args:
        source: The pattern with its brackets.
    """

    def __init__(self, source: str) -> None:
        if not source.endswith("]"):
            raise invalid("the closing bracket is missing")
        given = re.findall(r'(?:"(?:\\.|[^"\\])*"|%[^%]*%|[^,"%])+|(?<=,)(?=,|$)', source[1:-1])
        given = [part.strip() for part in given]
        if given.count("...") > 1:
            raise invalid("there is more than one ellipsis")
        self._gap = given.index("...") if "..." in given else None
        self._fields = [_field(part) for part in given if part != "..."]

    def find(self, message: str) -> Found | None:
        """See `Pattern`."""
        values = [next(g for g in m.groups() if g is not None) for m in _FIELD.finditer(message)]
        count = len(self._fields)
        if len(values) < count or (self._gap is None and len(values) != count):
            return None
        front = count if self._gap is None else self._gap
        places = [*range(front), *range(len(values) - count + front, len(values))]
        found = {f"${place + 1}": value for place, value in enumerate(values)}
        for (name, condition), place in zip(self._fields, places, strict=True):
            if not condition(values[place]):
                return None
            if name:
                found[f"${name}"] = found.pop(f"${place + 1}")
        return found


def _field(source: str) -> tuple[str, Test]:
    """(name, condition) of one field."""
    if re.fullmatch(r"[\w$\-]*", source):
        return source.removeprefix("$"), lambda _: True
    alternatives: list[list[Test]] = [[]]
    at, name = 0, ""
    while at < len(source):
        found = _CONDITION.match(source, at)
        if found is None:
            raise invalid(f"the field {source!r} cannot be read")
        name = found.group(1) or name
        alternatives[-1].append(comparison(found.group(2), found.group(3)))
        if found.group(4) == "||":
            alternatives.append([])
        at = found.end()

    def condition(value: Any) -> bool:
        return any(all(test(value) for test in tests) for tests in alternatives)

    return name.removeprefix("$"), condition

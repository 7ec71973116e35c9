"""The syntax of metric math: text to a tree. What functions mean is in `math`.

Follows "Metric math syntax and functions" of the CloudWatch user guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from localcloud.http import AwsError

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)
    | (?P<name>[A-Za-z][A-Za-z0-9_]*)
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/^<>()\[\],])
    )""",
    re.VERBOSE,
)
_LEVELS: tuple[set[str], ...] = (
    {"||", "OR"},
    {"&&", "AND"},
    {"==", "!=", "<", "<=", ">", ">="},
    {"+", "-"},
    {"*", "/"},
)
_SAME = {"OR": "||", "AND": "&&"}
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar."""

    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text."""

    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """The id of a metric or expression, or a word such as REPEAT or DESC."""

    name: str


@dataclass(frozen=True, slots=True)
class Array:
    """Several, in brackets."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """Unary minus."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and an operator; AND and OR as && and ||."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Text | Name | Array | Negation | Binary | Call


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        AwsError: ValidationError naming where the syntax ends.
    """
    return _Parser(text).whole()


def names(node: Node) -> set[str]:
    """Every name that an expression mentions, ids and words alike."""
    match node:
        case Name(name):
            return {name}
        case Array(items) | Call(_, items):
            return set().union(*map(names, items))
        case Negation(operand):
            return names(operand)
        case Binary(_, left, right):
            return names(left) | names(right)
    return set()


def calls(node: Node) -> set[str]:
    """Every function that an expression calls."""
    match node:
        case Array(items):
            return set().union(*map(calls, items))
        case Call(function, items):
            return {function}.union(*map(calls, items))
        case Negation(operand):
            return calls(operand)
        case Binary(_, left, right):
            return calls(left) | calls(right)
    return set()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        self._at = self._depth = 0
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if not found:
                raise self._error(at)
            kind = str(found.lastgroup)
            self._tokens.append((kind, found.group(kind), found.start(kind)))
            at = found.end()

    def whole(self) -> Node:
        node = self._binary(0)
        if self._at < len(self._tokens):
            raise self._error(self._tokens[self._at][2])
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        self._depth += level == 0
        if self._depth > MAX_DEPTH:
            raise self._error(len(self._text))
        operators = _LEVELS[level]
        node = self._binary(level + 1)
        while self._peek() in operators:
            sign = self._take()
            node = Binary(_SAME.get(sign, sign), node, self._binary(level + 1))
        self._depth -= level == 0
        return node

    def _unary(self) -> Node:
        signs = 0
        while self._peek() == "-":
            self._take()
            signs += 1
        node = self._power()
        return Negation(node) if signs % 2 else node

    def _power(self) -> Node:
        base = self._atom()
        if self._peek() == "^":
            self._take()
            return Binary("^", base, self._unary())
        return base

    def _atom(self) -> Node:
        if self._at == len(self._tokens):
            raise self._error(len(self._text))
        kind, text, at = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return Number(float(text))
        if kind == "text":
            return Text(re.sub(r"\\(.)", r"\1", text[1:-1]))
        if kind == "name":
            if self._peek() == "(":
                self._take()
                return Call(text, self._items(")"))
            return Name(text)
        if text == "(":
            node = self._binary(0)
            self._expect(")")
            return node
        if text == "[":
            return Array(self._items("]"))
        raise self._error(at)

    def _items(self, end: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while self._peek() != end:
            if items:
                self._expect(",")
            items.append(self._binary(0))
        self._take()
        return tuple(items)

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            at = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self._text)
            raise self._error(at)
        self._at += 1

    def _error(self, at: int) -> AwsError:
        where = f"at {self._text[at : at + 10]!r}" if self._text[at:].strip() else "at its end"
        return AwsError("ValidationError", f"Error in expression {self._text!r}: {where}")

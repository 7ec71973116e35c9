"""SEARCH: which metrics match a search expression.

Follows "CloudWatch search expression syntax" of the user guide: a schema of namespace and
dimension names in braces, then terms, which match parts of words unless they are quoted,
`Name=value` designators, AND, OR, NOT and parentheses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.cloudwatch.metrics import SeriesKey

    Test = Callable[["Candidate"], bool]

MAX_FOUND = 500
_SCHEMA = re.compile(r"\s*\{([^{}]*)\}")
_TOKEN = re.compile(r'\s*(\(|\)|(?:[^\s()"=]+|"[^"]*")(?:=(?:"[^"]*"|[^\s()"]+))?)')
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A metric as a search sees it."""

    namespace: str
    name: str
    dimensions: dict[str, str]

    def texts(self) -> list[str]:
        """All that a term may match."""
        return [self.namespace, self.name, *self.dimensions, *self.dimensions.values()]

    def property(self, name: str) -> str | None:
        """What a designator names."""
        return {"Namespace": self.namespace, "MetricName": self.name}.get(
            name, self.dimensions.get(name)
        )


def compile_search(query: str) -> Callable[[SeriesKey], bool]:
    """Whether a metric matches.

    Raises:
        AwsError: ValidationError, where the expression is malformed.
    """
    schema = _SCHEMA.match(query)
    names = _split_schema(schema.group(1)) if schema else []
    test = _Parser(query[schema.end() if schema else 0 :], query).whole()
    namespace, wanted = (names[0], set(names[1:])) if names else ("", set())

    def matches(key: SeriesKey) -> bool:
        candidate = Candidate(key[0], key[1], dict(key[2]))
        if names and (key[0] != namespace or candidate.dimensions.keys() != wanted):
            return False
        return test(candidate)

    return matches


def _split_schema(text: str) -> list[str]:
    return [part.strip().strip('"') for part in text.split(",")]


class _Parser:
    def __init__(self, text: str, query: str) -> None:
        self._query = query
        self._tokens: list[str] = []
        self._at = at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if not found:
                raise self._error()
            self._tokens.append(found.group(1))
            at = found.end()

    def whole(self) -> Test:
        if not self._tokens:
            return lambda _: True
        test = self._either()
        if self._at < len(self._tokens):
            raise self._error()
        return test

    def _either(self) -> Test:
        tests = [self._all()]
        while self._peek() == "OR":
            self._at += 1
            tests.append(self._all())
        return lambda candidate: any(test(candidate) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._peek() not in {"", "OR", ")"}:
            self._at += self._peek() == "AND"
            tests.append(self._one())
        return lambda candidate: all(test(candidate) for test in tests)

    def _one(self) -> Test:
        token = self._peek()
        self._at += 1
        if token == "NOT":  # noqa: S105 - a token of the grammar
            test = self._one()
            return lambda candidate: not test(candidate)
        if token == "(":  # noqa: S105 - a token of the grammar
            test = self._either()
            if self._peek() != ")":
                raise self._error()
            self._at += 1
            return test
        if token in {"", ")", "AND", "OR"}:
            raise self._error()
        return _term(token)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _error(self) -> AwsError:
        return AwsError("ValidationError", f"Error in search expression {self._query!r}")


def _term(token: str) -> Test:
    name, sign, value = token.partition("=")
    if sign and not token.startswith('"'):
        if value.startswith('"'):
            return lambda candidate: candidate.property(name) == value.strip('"')
        return lambda candidate: _partly(value, candidate.property(name) or "")
    if token.startswith('"'):
        return lambda candidate: token.strip('"') in candidate.texts()
    return lambda candidate: any(_partly(token, text) for text in candidate.texts())


def _partly(term: str, text: str) -> bool:
    """Whether the words of a term stand one after the other among the words of a text."""
    wanted, words = _words(term), _words(text)
    size = len(wanted)
    return any(words[at : at + size] == wanted for at in range(len(words) - size + 1))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]

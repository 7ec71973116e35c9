"""Reads a rule's statement into a tree of functions.

Follows "AWS IoT SQL reference" of the developer guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from localcloud.iot.sql import operators
from localcloud.iot.sql.functions import FUNCTIONS
from localcloud.iot.sql.values import UNDEFINED, Context, cast, plain

_TOKENS = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
      | (?P<string>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign><>|<=|>=|!=|[-+*/%=<>().,\[\]{}:])
    )""",
    re.VERBOSE,
)
_KEYWORDS = {"select", "from", "where", "as", "and", "or", "not", "in", "case", "when", "then",
             "else", "end", "value", "true", "false", "null", "undefined", "is"}  # fmt: skip
_TYPES = {"string", "nvarchar", "text", "varchar", "int", "decimal", "bool", "boolean"}
MAX_DEPTH = 60


class SqlError(ValueError):
    """A statement that is not served, and why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A rule's statement.

    Attributes:
        topic: The filter of FROM; None where there is no FROM, for basic ingest alone.
        everything: Whether SELECT has `*`.
        items: (name, expression) of the rest of SELECT.
        value: The expression of SELECT VALUE.
        where: The condition.
    """

    topic: str | None
    everything: bool
    items: tuple[tuple[str, Any], ...]
    value: Any
    where: Any

    @property
    def passes_payload(self) -> bool:
        """Whether the payload goes on as it came."""
        return self.everything and not self.items

    def select(self, context: Context) -> bytes | None:
        """What the rule hands to its actions; None where WHERE does not hold.

        Raises:
            SqlError: the payload is no JSON, and the statement needs more than passing it on.
        """
        if self.where is not None and operators.truth(self.where(context)) is not True:
            return None
        if self.passes_payload:
            return context.payload
        if self.value is not None:
            found = self.value(context)
            return b"" if found is UNDEFINED else _serialized(found)
        result: dict[str, Any] = {}
        if self.everything:
            if not isinstance(context.document, dict):
                raise SqlError("the payload is no JSON object, and SELECT adds to it")
            result.update(context.document)
        for name, expression in self.items:
            found = expression(context)
            if found is not UNDEFINED:
                result[name] = found
        return _serialized(result)


def _serialized(value: Any) -> bytes:
    return value if isinstance(value, bytes) else orjson.dumps(plain(value))


def parse(sql: str) -> Statement:
    """Reads a statement.

    Raises:
        SqlError: it is none, or holds what is not served.
    """
    return _Parser(sql).statement()


def parse_expression(text: str) -> Any:
    """Reads one expression, of a substitution template.

    Raises:
        SqlError: it is none, or holds what is not served.
    """
    parser = _Parser(text)
    found = parser.expression()
    parser.end()
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def keyword(self) -> str:
        return self.text.lower() if self.kind == "name" else ""


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    # Clauses

    def statement(self) -> Statement:
        self._word("select")
        everything, value = False, None
        items: list[tuple[str, Any]] = []
        if self._skip_word("value"):
            value = None if self._skip("*") else self.expression()
            everything = value is None
        else:
            while True:
                if self._skip("*"):
                    everything = True
                else:
                    items.append(self._item(len(items)))
                if not self._skip(","):
                    break
        topic = where = None
        if self._skip_word("from"):
            token = self._next()
            if token.kind not in {"string", "quoted"}:
                self._refuse("FROM takes a topic filter in quotes", token)
            topic = _unquoted(token.text)
        if self._skip_word("where"):
            where = self.expression()
        self.end()
        return Statement(topic, everything, tuple(items), value, where)

    def _item(self, number: int) -> tuple[str, Any]:
        start = self._at
        expression = self.expression()
        if self._skip_word("as"):
            token = self._next()
            if token.kind not in {"name", "quoted"}:
                self._refuse("AS takes a name", token)
            return _unquoted(token.text), expression
        taken = self._tokens[start : self._at]
        # A path is named by its last step, a function by its own name.
        if len(taken) > 1 and taken[1].text == "(":
            return taken[0].text, expression
        names = [t for t in taken if t.kind in {"name", "quoted"}]
        simple = names and all(t.kind in {"name", "quoted"} or t.text == "." for t in taken)
        return (_unquoted(names[-1].text) if simple else f"_{number}"), expression

    def end(self) -> None:
        if self._at < len(self._tokens):
            self._refuse("this is too much", self._tokens[self._at])

    # Expressions, from the loosest to the tightest

    def expression(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SqlError("expressions are nested too deeply")
        try:
            return self._any()
        finally:
            self._depth -= 1

    def _any(self) -> Any:
        left = self._all()
        while self._skip_word("or"):
            left = operators.either(left, self._all())
        return left

    def _all(self) -> Any:
        left = self._not()
        while self._skip_word("and"):
            left = operators.both(left, self._not())
        return left

    def _not(self) -> Any:
        if self._skip_word("not"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise SqlError("expressions are nested too deeply")
            inner = operators.negated(self._not())
            self._depth -= 1
            return inner
        return self._comparison()

    def _comparison(self) -> Any:
        left = self._sum()
        sign = self._peek().text
        if sign in operators.COMPARISONS:
            self._at += 1
            return operators.compared(sign, left, self._sum())
        if self._skip_word("in"):
            return operators.contained(left, self._sum())
        return left

    def _sum(self) -> Any:
        left = self._product()
        while (sign := self._peek().text) in {"+", "-"}:
            self._at += 1
            left = operators.calculated(sign, left, self._product())
        return left

    def _product(self) -> Any:
        left = self._signed()
        while (sign := self._peek().text) in {"*", "/", "%"}:
            self._at += 1
            left = operators.calculated(sign, left, self._signed())
        return left

    def _signed(self) -> Any:
        if self._skip("-"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise SqlError("expressions are nested too deeply")
            inner = operators.calculated("-", _constant(0), self._signed())
            self._depth -= 1
            return inner
        return self._path()

    def _path(self) -> Any:
        found = self._primary()
        while True:
            if self._skip("."):
                token = self._next()
                if token.kind not in {"name", "quoted"}:
                    self._refuse("a path goes on with a name", token)
                found = operators.step(found, _constant(_unquoted(token.text)))
            elif self._skip("["):
                found = operators.step(found, self.expression())
                self._sign("]")
            else:
                return found

    def _primary(self) -> Any:
        token = self._next()
        if token.kind == "number":
            number = float(token.text)
            whole = number.is_integer() and abs(number) < 2**63
            return _constant(int(number) if whole else number)
        if token.kind == "string":
            return _constant(_unquoted(token.text))
        if token.kind == "quoted":
            return operators.member(_unquoted(token.text))
        if token.text == "(":
            if self._peek().keyword == "select":
                raise SqlError("nested SELECT statements are not served")
            inner = self.expression()
            self._sign(")")
            return inner
        if token.text == "[":
            return operators.array(self._list("]"))
        if token.text == "{":
            return self._object()
        if token.text == "*":
            return operators.document
        if token.kind != "name":
            self._refuse("an expression is expected", token)
        return self._named(token)

    def _named(self, token: _Token) -> Any:
        word = token.keyword
        if word in {"true", "false"}:
            return _constant(word == "true")
        if word == "null":
            return _constant(None)
        if word == "undefined":
            return _constant(UNDEFINED)
        if word == "case":
            return self._case()
        if word in _KEYWORDS:
            self._refuse("an expression is expected", token)
        if self._skip("("):
            return self._cast() if word == "cast" else self._call(word)
        return operators.member(token.text)

    def _call(self, name: str) -> Any:
        function = FUNCTIONS.get(name)
        if function is None:
            raise SqlError(f"the function {name} is not served: there are {', '.join(FUNCTIONS)}")
        arguments = self._list(")")
        if not function.least <= len(arguments) <= function.most:
            raise SqlError(f"{name} does not take {len(arguments)} arguments")
        return operators.called(function, arguments)

    def _cast(self) -> Any:
        inner = self.expression()
        self._word("as")
        token = self._next()
        if token.keyword not in _TYPES:
            self._refuse("CAST takes String, Int, Decimal or Boolean", token)
        kind = token.keyword
        self._sign(")")
        return lambda context: cast(inner(context), kind)

    def _case(self) -> Any:
        subject = None if self._peek().keyword == "when" else self.expression()
        branches = []
        while self._skip_word("when"):
            when = self.expression()
            self._word("then")
            branches.append((when, self.expression()))
        otherwise = self.expression() if self._skip_word("else") else _constant(UNDEFINED)
        self._word("end")
        if not branches:
            raise SqlError("CASE has no WHEN")
        return operators.chosen(subject, branches, otherwise)

    def _object(self) -> Any:
        members = []
        while not self._skip("}"):
            token = self._next()
            if token.kind not in {"name", "quoted", "string"}:
                self._refuse("an object's member has a name", token)
            self._sign(":")
            members.append((_unquoted(token.text), self.expression()))
            if not self._skip(","):
                self._sign("}")
                break
        return operators.object_of(members)

    def _list(self, end: str) -> list[Any]:
        found: list[Any] = []
        if self._skip(end):
            return found
        while True:
            found.append(self.expression())
            if self._skip(end):
                return found
            self._sign(",")

    # Tokens

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("end", "")

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, sign: str) -> bool:
        found = self._peek().kind == "sign" and self._peek().text == sign
        self._at += found
        return found

    def _skip_word(self, word: str) -> bool:
        found = self._peek().keyword == word
        self._at += found
        return found

    def _sign(self, sign: str) -> None:
        if not self._skip(sign):
            self._refuse(f"{sign} is expected", self._peek())

    def _word(self, word: str) -> None:
        if not self._skip_word(word):
            self._refuse(f"{word.upper()} is expected", self._peek())

    def _refuse(self, what: str, token: _Token) -> NoReturn:
        raise SqlError(f"{what}, at {token.text!r}" if token.text else f"{what}, at the end")


def _tokens(text: str) -> list[_Token]:
    found, at, text = [], 0, text.rstrip().removesuffix(";").rstrip()
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None or match.end() == at:
            raise SqlError(f"{text[at:].strip()[:20]!r} cannot be read")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match.group(kind)))
        at = match.end()
    return found


def _unquoted(text: str) -> str:
    if text[:1] in {"'", '"'}:
        return text[1:-1].replace(text[0] * 2, text[0])
    return text


def _constant(value: Any) -> Any:
    return lambda _context: value

"""Texts that Terraform would read as its own expressions, though they are another's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stack.preflight.document import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.preflight.document import Document

_PARTS = re.compile(r"\$\$\{|\$\{([^{}]*)\}?")
# What an expression of Terraform begins with: an address, or one of its functions.
_ADDRESS = re.compile(r"(?:data\.)?aws_\w+\.[\w-]+[.\[]|(?:var|local|each|count|path|module)\.")
_CALL = re.compile(r"(\w+)\(")
FUNCTIONS = {
    "abs", "base64encode", "coalesce", "concat", "element", "file", "filebase64",
    "filebase64sha256", "filesha256", "format", "join", "jsonencode", "length", "lookup", "lower",
    "merge", "replace", "split", "templatefile", "tolist", "tostring", "upper",
}  # fmt: skip


def check_expressions(document: Document) -> Iterator[Finding]:
    """Expressions that Terraform cannot know, such as IoT's `${topic(2)}`."""
    for address, given in document.every():
        for argument, text in _texts(given, ""):
            for match in _PARTS.finditer(text):
                expression = match.group(1)
                if expression is None or _is_terraforms(expression.strip()):
                    continue
                yield Finding(
                    "expression",
                    address,
                    f"{argument}: Terraform would read ${{{expression}}} as its own: "
                    f"write $${{{expression}}}",
                )


def _is_terraforms(expression: str) -> bool:
    call = _CALL.match(expression)
    return bool(_ADDRESS.match(expression)) or (call is not None and call.group(1) in FUNCTIONS)


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every text inside a value; what is under `//` is a comment."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            if name != "//":
                yield from _texts(member, f"{where}.{name}".lstrip("."))
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, where)

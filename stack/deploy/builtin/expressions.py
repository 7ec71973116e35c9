"""References in Terraform JSON: `${aws_x.name.attribute}`, functions used by the stack, escapes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

# `$${` stands for a literal `${`; otherwise an expression up to its closing brace.
_PARTS = re.compile(r"\$\$\{|\$\{([^{}]*)\}")
_REFERENCE = re.compile(r"^(data\.)?([a-z0-9_]+)\.([A-Za-z0-9_-]+)\.([a-z0-9_]+)$")
_ADDRESS = re.compile(r"^(data\.)?[a-z0-9_]+\.[A-Za-z0-9_-]+$")
_FILE_HASH = re.compile(r'^filebase64sha256\("([^"]+)"\)$')

Attributes = Mapping[str, Mapping[str, Any]]


def references(value: Any) -> Iterator[str]:
    """Addresses of what a value refers to, such as `aws_kms_key.key`.

    Raises:
        UsageError: an expression is none that the engine reads.
    """
    if isinstance(value, str):
        for match in _PARTS.finditer(value):
            expression = match.group(1)
            if expression is None or _FILE_HASH.match(expression):
                continue
            yield _parse(expression)[0]
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def resolve(value: Any, attributes: Attributes, folder: Path) -> Any:
    """The value with every reference replaced by the attribute it names.

    Args:
        value: What the JSON says.
        attributes: Attributes by address of what exists.
        folder: Where relative paths of files begin.

    Raises:
        UsageError: an expression cannot be read, or names an attribute that is not there.
    """
    if isinstance(value, str):
        whole = _PARTS.fullmatch(value)
        if whole and whole.group(1) is not None:
            return _evaluate(whole.group(1), attributes, folder)

        def replace(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return "${"
            return str(_evaluate(match.group(1), attributes, folder))

        return _PARTS.sub(replace, value)
    if isinstance(value, Mapping):
        return {name: resolve(member, attributes, folder) for name, member in value.items()}
    if isinstance(value, list):
        return [resolve(member, attributes, folder) for member in value]
    return value


def is_address(text: str) -> bool:
    """Whether a text is an address, as in `depends_on`."""
    return _ADDRESS.match(text) is not None


def _parse(expression: str) -> tuple[str, str]:
    """(address, attribute) of a reference."""
    match = _REFERENCE.match(expression.strip())
    if match is None:
        raise UsageError(
            f"engine builtin cannot read the expression ${{{expression}}}: use --engine terraform"
        )
    data, kind, name, attribute = match.groups()
    return f"{data or ''}{kind}.{name}", attribute


def _evaluate(expression: str, attributes: Attributes, folder: Path) -> Any:
    file_hash = _FILE_HASH.match(expression)
    if file_hash:
        digest = hashlib.sha256((folder / file_hash.group(1)).read_bytes()).digest()
        return base64.b64encode(digest).decode()
    address, attribute = _parse(expression)
    if attribute not in attributes.get(address, {}):
        raise UsageError(f"engine builtin knows no attribute {attribute} of {address}")
    return attributes[address][attribute]

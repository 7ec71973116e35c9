"""A synthesized stack as the rules look at it: resources by address, policies as statements."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError
from stack.synth import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: Which rule says so.
        address: Of the resource, such as `aws_sqs_queue.failures`.
        text: What is wrong and what to do.
    """

    rule: str
    address: str
    text: str

    def __str__(self) -> str:
        return f"{self.address}: {self.text} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Document:
    """One stack.

    Attributes:
        environment: Its suffix.
        resources: Arguments by type and name.
    """

    environment: str
    resources: dict[str, dict[str, dict[str, Any]]]

    def of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(address, arguments) of the resources of a type."""
        for name, given in self.resources.get(kind, {}).items():
            yield f"{kind}.{name}", given

    def every(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(address, arguments) of all resources."""
        for kind in self.resources:
            yield from self.of(kind)

    def about(self, kind: str, argument: str, address: str) -> Iterator[dict[str, Any]]:
        """Resources of a type whose argument refers to another, such as a queue's policies."""
        for _, given in self.of(kind):
            if refers_to(given.get(argument), address):
                yield given


def read_document(folder: Path, environment: str) -> Document:
    """The stack in a folder.

    Raises:
        UsageError: there is none, or it is no Terraform JSON.
    """
    path = folder / FILE_NAME
    try:
        stack = json.loads(path.read_text())
        resources = stack.get("resource", {})
        for named in resources.values():
            for given in named.values():
                given.items()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no Terraform JSON: {error}") from error
    return Document(environment, resources)


def refers_to(value: Any, address: str) -> bool:
    """Whether a value is an expression on a resource."""
    return isinstance(value, str) and f"${{{address}." in value


def block(value: Any) -> dict[str, Any]:
    """A nested block, which the JSON has as an object or as a list of one."""
    if isinstance(value, list):
        return dict(value[0]) if value else {}
    return dict(value or {})


def statements(policy: Any) -> list[dict[str, Any]]:
    """The statements of a policy document; none where it is an expression or no JSON."""
    try:
        found = json.loads(policy)["Statement"]
    except (TypeError, ValueError, KeyError):
        return []
    return found if isinstance(found, list) else [found]


def texts(value: Any) -> list[str]:
    """A member of a statement that may be one text or several."""
    if isinstance(value, str):
        return [value]
    return [text for text in value or () if isinstance(text, str)]


def services(statement: dict[str, Any]) -> list[str]:
    """The services that a statement is about."""
    principal = statement.get("Principal")
    return texts(principal.get("Service")) if isinstance(principal, dict) else []

"""What the engine must know of a type of resource: its arguments, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Arguments = Mapping[str, Any]
# Known arguments: a name to None (a value) or to the arguments of its nested block.
Schema = Mapping[str, Any]

META = {"//", "depends_on", "lifecycle", "provider"}


class Clients(Protocol):
    """Gives API clients of the target."""

    async def __call__(self, service: str) -> Any:
        """The client of an AWS service."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One type of resource.

    Attributes:
        schema: Every argument that is served, nested blocks included.
        create: Makes it; returns its attributes (what references can name).
        read: Its attributes as they are, or None where it is gone.
        delete: Deletes it; one that is gone is no error.
        update: Changes it in place, given (attributes, old arguments, new arguments); returns its
            attributes. None where every change is a replacement.
        replace_on: Arguments whose change is a replacement.
        taggable: Whether the provider's default tags are applied.
    """

    schema: Schema
    create: Callable[[Clients, Arguments], Awaitable[dict[str, Any]]]
    read: Callable[[Clients, Mapping[str, Any]], Awaitable[bool]]
    delete: Callable[[Clients, Mapping[str, Any]], Awaitable[None]]
    update: (
        Callable[[Clients, Mapping[str, Any], Arguments, Arguments], Awaitable[dict[str, Any]]]
        | None
    ) = None
    replace_on: frozenset[str] = field(default_factory=frozenset)
    taggable: bool = False


def unknown_arguments(schema: Schema, arguments: Arguments, prefix: str = "") -> list[str]:
    """Dotted names of arguments that the schema does not have."""
    unknown = []
    for name, value in arguments.items():
        if not prefix and name in META:
            continue
        if name not in schema:
            unknown.append(prefix + name)
            continue
        nested = schema[name]
        if nested is not None:
            for block in value if isinstance(value, list) else [value]:
                if isinstance(block, Mapping):
                    unknown += unknown_arguments(nested, block, f"{prefix}{name}.")
    return unknown


def block(value: Any) -> dict[str, Any]:
    """A nested block, which the JSON has as an object or as a list of one."""
    if isinstance(value, list):
        return dict(value[0]) if value else {}
    return dict(value or {})


def tag_list(arguments: Arguments) -> list[dict[str, str]]:
    """Tags as most APIs have them."""
    return [{"Key": k, "Value": v} for k, v in sorted((arguments.get("tags") or {}).items())]


def tag_changes(old: Arguments, new: Arguments) -> tuple[dict[str, str], list[str]]:
    """(tags to set, keys to remove)."""
    before, after = old.get("tags") or {}, new.get("tags") or {}
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    return changed, sorted(before.keys() - after.keys())

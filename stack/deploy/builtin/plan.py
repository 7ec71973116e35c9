"""Reads synthesized JSON into resources with their needs, and refuses what the engine cannot do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError
from stack.deploy.builtin.expressions import references
from stack.deploy.builtin.resource import META, unknown_arguments
from stack.deploy.builtin.types import TYPES
from stack.synth import FILE_NAME

if TYPE_CHECKING:
    from pathlib import Path

DATA_ARGUMENTS = {
    "aws_caller_identity": set[str](),
    "aws_secretsmanager_random_password": {"password_length", "exclude_punctuation"},
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One resource of the JSON.

    Attributes:
        address: `aws_type.name`.
        type: Its Terraform type.
        arguments: What it is given, references unresolved.
        needs: Addresses of resources that must be there before.
        ignored: Arguments whose change is ignored.
    """

    address: str
    type: str
    arguments: dict[str, Any]
    needs: list[str]
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the JSON wants."""

    folder: Path
    resources: dict[str, Wanted]
    data: dict[str, dict[str, Any]]
    outputs: dict[str, Any]
    default_tags: dict[str, str]

    def in_order(self) -> list[str]:
        """The addresses of the resources, each after what it needs."""
        needs = {
            address: [need for need in wanted.needs if need in self.resources]
            for address, wanted in self.resources.items()
        }
        return list(TopologicalSorter(needs).static_order())


def read_plan(folder: Path) -> Plan:
    """The plan in a synthesized stack's folder.

    Raises:
        UsageError: it has types, arguments or expressions that the engine does not know; all of
            them are named, and nothing was touched.
    """
    stack = json.loads((folder / FILE_NAME).read_text())
    resources: dict[str, Wanted] = {}
    problems: list[str] = []
    data = {
        f"data.{kind}.{name}": {k: v for k, v in given.items() if k not in META}
        for kind, named in stack.get("data", {}).items()
        for name, given in named.items()
    }
    for address, given in data.items():
        kind = address.split(".")[1]
        if kind not in DATA_ARGUMENTS:
            problems.append(f"{address} (type)")
        else:
            problems += [
                f"{address}.{name}" for name in sorted(given.keys() - DATA_ARGUMENTS[kind])
            ]
    for kind, named in stack.get("resource", {}).items():
        for name, given in named.items():
            address = f"{kind}.{name}"
            if kind not in TYPES:
                problems.append(f"{address} (type)")
                continue
            unknown = unknown_arguments(TYPES[kind].schema, given)
            problems += [f"{address}.{argument}" for argument in unknown]
            resources[address] = _wanted(address, kind, given)
    known = resources.keys() | data.keys()
    for wanted in resources.values():
        problems += [f"{wanted.address} -> {need}" for need in wanted.needs if need not in known]
    if problems:
        raise UsageError(
            f"engine builtin does not know {', '.join(problems)}: "
            "nothing was changed; use --engine terraform"
        )
    provider = (stack.get("provider", {}).get("aws") or [{}])[0]
    tags = (provider.get("default_tags") or [{}])[0].get("tags") or {}
    outputs = {name: output["value"] for name, output in stack.get("output", {}).items()}
    return Plan(folder, resources, data, outputs, tags)


def _wanted(address: str, kind: str, given: dict[str, Any]) -> Wanted:
    arguments = {name: value for name, value in given.items() if name not in META}
    needs = sorted({*references(arguments), *given.get("depends_on", ())})
    ignored = set((given.get("lifecycle") or {}).get("ignore_changes") or ())
    return Wanted(address, kind, arguments, needs, ignored)

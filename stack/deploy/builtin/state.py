"""What the builtin engine remembers of a deployment: arguments and attributes by address."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "builtin.state.json"
VERSION = 1


@dataclass(slots=True)
class Entry:
    """One resource as it was made.

    Attributes:
        type: Its Terraform type.
        arguments: What it was given, ignored and secret arguments left out.
        attributes: What references can name.
        needs: Addresses that it refers to.
    """

    type: str
    arguments: dict[str, Any]
    attributes: dict[str, Any]
    needs: list[str] = field(default_factory=list)


class State:
    """The state of one environment, written after each change; readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self.entries: dict[str, Entry] = {}
        if self._path.exists():
            told = json.loads(self._path.read_text())
            self.entries = {address: Entry(**entry) for address, entry in told["resources"].items()}

    def put(self, address: str, entry: Entry) -> None:
        """Remembers a resource."""
        self.entries[address] = entry
        self._save()

    def remove(self, address: str) -> None:
        """Forgets a resource."""
        self.entries.pop(address, None)
        self._save()

    def _save(self) -> None:
        told = {
            "version": VERSION,
            "resources": {address: asdict(entry) for address, entry in self.entries.items()},
        }
        text = json.dumps(told, indent=1, sort_keys=True)
        temporary = self._path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        temporary.replace(self._path)

    def deletion_order(self, addresses: set[str]) -> list[str]:
        """The addresses, each before what it needs."""
        order: list[str] = []
        seen: set[str] = set()

        def visit(address: str) -> None:
            if address in seen or address not in self.entries:
                return
            seen.add(address)
            for need in self.entries[address].needs:
                visit(need)
            order.append(address)

        for address in sorted(addresses):
            visit(address)
        return [address for address in reversed(order) if address in addresses]

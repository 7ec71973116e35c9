#!/usr/bin/env python3
"""Fills in a manifest of deploy/load and prints it.

    scripts/load_manifest.py kubernetes IMAGE=... WORKERS=8 RATE=200000/s ... | kubectl apply -f -

Without values it says which ones the manifest needs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parents[1] / "deploy" / "load"
# Values go into YAML, and one into a command line: there is nothing in them to be quoted.
PLAIN = re.compile(r"[A-Za-z0-9._:/@+-]+")
COUNTS = ("WORKERS", "TASKS", "DEVICES")
# A DNS label that leaves room for what is added to it.
RUN_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
# What one call of RunTask starts at most.
MOST_TASKS = 10


class ManifestError(Exception):
    """A manifest cannot be filled in; one line for a person."""


def names() -> list[str]:
    """The manifests there are."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))


def filled(name: str, values: dict[str, str]) -> str:
    """A manifest with its values.

    Raises:
        ManifestError: there is no such manifest, or a value is missing, unknown or none.
    """
    if name not in names():
        raise ManifestError(f"no manifest {name!r}: there are {', '.join(names())}")
    template = Template((FOLDER / f"{name}.yaml").read_text())
    needed = set(template.get_identifiers())
    if missing := sorted(needed - values.keys()):
        raise ManifestError(f"{name} needs {' '.join(f'{one}=...' for one in missing)}")
    if unknown := sorted(values.keys() - needed):
        raise ManifestError(
            f"{name} has no {', '.join(unknown)}: it has {', '.join(sorted(needed))}"
        )
    for key, value in sorted(values.items()):
        _check(key, value)
    if "WORKERS" in values and "DEVICES" in values:
        workers, devices = int(values["WORKERS"]), int(values["DEVICES"])
        if workers > devices:
            raise ManifestError(f"WORKERS={workers} is more than the {devices} devices: use fewer")
    return template.substitute(values)


def _check(key: str, value: str) -> None:
    if not PLAIN.fullmatch(value):
        raise ManifestError(f"{key}={value!r}: letters, digits and ._:/@+- only")
    if key in COUNTS and not re.fullmatch(r"[1-9][0-9]*", value):
        raise ManifestError(f"{key}={value}: give a whole number, 1 or more")
    if key == "TASKS" and int(value) > MOST_TASKS:
        raise ManifestError(
            f"TASKS={value}: one call starts {MOST_TASKS} at most; run the workers in several calls"
        )
    if key == "RUN_ID" and not RUN_ID.fullmatch(value):
        raise ManifestError(
            f"RUN_ID={value}: it names jobs: lower-case letters, digits and dashes, 48 at most"
        )


def _values(pairs: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise ManifestError(f"{key!r} is no NAME=VALUE")
        values[key] = value
    return values


def main(arguments: list[str]) -> int:
    """Prints a manifest; 2 if it cannot be filled in."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(f"{__doc__}\nManifests: {', '.join(names())}\n")
        return 0 if arguments else 2
    try:
        text = filled(arguments[0], _values(arguments[1:]))
    except ManifestError as error:
        sys.stderr.write(f"load_manifest: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

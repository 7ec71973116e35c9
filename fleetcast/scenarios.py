"""Finds scenario files: the user's own by path, the ready ones by name."""

from __future__ import annotations

from pathlib import Path

from fleetcast.errors import UsageError

_PACKAGE = Path(__file__).parent


def bundled_dir() -> Path:
    """The folder of ready scenarios: in a checkout, or inside an installed package."""
    installed = _PACKAGE / "_scenarios"
    return installed if installed.is_dir() else _PACKAGE.parent / "scenarios"


def bundled() -> list[str]:
    """Names of the ready scenarios, sorted."""
    return sorted(path.stem for path in bundled_dir().glob("*.yaml"))


def find(scenario: str) -> Path:
    """The file of `scenario`, a path or the name of a ready one.

    Raises:
        UsageError: there is neither such a file nor such a name.
    """
    path = Path(scenario)
    if path.is_file():
        return path
    named = bundled_dir() / f"{scenario}.yaml"
    if path.name == scenario and named.is_file():
        return named
    raise UsageError(f"no scenario {scenario!r}: give a YAML file or one of {', '.join(bundled())}")

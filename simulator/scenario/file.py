"""Scenario files: read from YAML, with errors that name file, line and field; runs' files likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fleetcast.errors import UsageError
from simulator.scenario.errors import line_of, problems
from simulator.scenario.model import RunInfo, Scenario
from simulator.yamlfile import parse

if TYPE_CHECKING:
    from pathlib import Path

    import yaml

WHAT = ("scenario", "a mapping with name, fleet and rate")


def load(path: Path) -> Scenario:
    """Reads a scenario file.

    Raises:
        UsageError: it cannot be used; file, line and field are named.
    """
    return _validate(path, *parse(path, *WHAT))


def complaints(path: Path) -> list[str]:
    """All that is wrong with a scenario file, a line each; none where it can be used.

    Raises:
        UsageError: it is no YAML at all.
    """
    value, nodes = parse(path, *WHAT)
    try:
        _make(path, value)
    except ValidationError as error:
        return _told(path, nodes, error)
    return []


def load_run(folder: Path) -> tuple[Scenario, RunInfo]:
    """Reads the scenario and the identity of a run.

    Raises:
        UsageError: the folder holds no run.
    """
    path = folder / "scenario.yaml"
    value, nodes = parse(path, *WHAT)
    try:
        run = dict(value.pop("run"))
        run["devices_slice"] = tuple(run["devices_slice"])
        info = RunInfo(**run)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: the run it belongs to is not described ({error})") from error
    return _validate(path, value, nodes), info


def _make(path: Path, value: dict[str, Any]) -> Scenario:
    return Scenario.model_validate(value, context={"folder": path.resolve().parent})


def _validate(path: Path, value: dict[str, Any], nodes: yaml.Node | None) -> Scenario:
    try:
        return _make(path, value)
    except ValidationError as error:
        raise UsageError(_told(path, nodes, error)[0]) from error


def _told(path: Path, nodes: yaml.Node | None, error: ValidationError) -> list[str]:
    return [f"{path}:{line_of(nodes, found.path)}: {found}" for found in problems(error)]

"""Scenario files: read from YAML, with errors that name file, line and field; runs' files likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from fleetcast.errors import UsageError
from simulator.scenario.errors import line_of, problems
from simulator.scenario.model import RunInfo, Scenario

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> Scenario:
    """Reads a scenario file.

    Raises:
        UsageError: it cannot be used; file, line and field are named.
    """
    return _validate(path, *_parse(path))


def complaints(path: Path) -> list[str]:
    """All that is wrong with a scenario file, a line each; none where it can be used.

    Raises:
        UsageError: it is no YAML at all.
    """
    value, nodes = _parse(path)
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
    value, nodes = _parse(path)
    try:
        run = dict(value.pop("run"))
        run["devices_slice"] = tuple(run["devices_slice"])
        info = RunInfo(**run)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: the run it belongs to is not described ({error})") from error
    return _validate(path, value, nodes), info


def _parse(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read scenario {path}: {error}") from error
    try:
        nodes = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise UsageError(f"{path}{where}: not YAML: {what}") from error
    except ValueError as error:
        # A date such as 2024-13-45: PyYAML passes on what the constructor says.
        raise UsageError(f"{path}: not YAML: {error}") from error
    _refuse_repeats(path, nodes)
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a scenario is a mapping with name, fleet and rate")
    return value, nodes


def _refuse_repeats(path: Path, root: yaml.Node | None) -> None:
    """Refuses a key that is twice in a mapping, of which YAML would silently drop the first."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise UsageError(f"{path}:{line}: {key.value!r} is there twice: keep one")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
                waiting.append(value)


def _make(path: Path, value: dict[str, Any]) -> Scenario:
    return Scenario.model_validate(value, context={"folder": path.resolve().parent})


def _validate(path: Path, value: dict[str, Any], nodes: yaml.Node | None) -> Scenario:
    try:
        return _make(path, value)
    except ValidationError as error:
        raise UsageError(_told(path, nodes, error)[0]) from error


def _told(path: Path, nodes: yaml.Node | None, error: ValidationError) -> list[str]:
    return [f"{path}:{line_of(nodes, found.path)}: {found}" for found in problems(error)]

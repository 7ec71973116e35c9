"""YAML files that people write: read with their lines, so that what is wrong can be pointed at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def parse(path: Path, kind: str, has: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """A file's mapping, and its nodes with their lines.

    Args:
        path: The file.
        kind: What it is, such as `scenario`.
        has: What it must be, such as `a mapping with name and rate`.

    Raises:
        UsageError: it cannot be read, is no YAML or no mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {kind} {path}: {error}") from error
    try:
        nodes = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise UsageError(f"{path}{where}: not YAML: {problem}") from error
    except ValueError as error:
        # A date such as 2024-13-45: PyYAML passes on what the constructor says.
        raise UsageError(f"{path}: not YAML: {error}") from error
    _refuse_repeats(path, nodes)
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a {kind} is {has}")
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

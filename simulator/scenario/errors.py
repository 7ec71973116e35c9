"""What is wrong with a scenario, in lines for a person: where it stands, what it is, what to do."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pydantic import ValidationError

# What a check of several fields begins its text with: the path to one of them.
_PATH = re.compile(r"^([a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*): ")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the path to the field, and what to do about it."""

    path: tuple[Any, ...]
    text: str

    def __str__(self) -> str:
        where = ".".join(str(part) for part in self.path)
        return f"{where}: {self.text}" if where else self.text


def problems(error: ValidationError) -> list[Problem]:
    """All that pydantic found, in the order of the file."""
    return [_problem(found) for found in error.errors()]


def line_of(node: yaml.Node | None, path: tuple[Any, ...]) -> int:
    """The line of the deepest node on the way to a field, counted from 1."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and part in range(len(node.value)):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _problem(found: Any) -> Problem:
    text = found["msg"].removeprefix("Value error, ")
    match found["type"]:
        case "union_tag_invalid":
            context = found["ctx"]
            known = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
            close = difflib.get_close_matches(context["tag"], known, 1)
            kind = context["discriminator"].strip("'")
            hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
            text = f"unknown {kind} {context['tag']!r}: {hint}"
        case "union_tag_not_found":
            text = f"{found['ctx']['discriminator']} is missing"
        case "extra_forbidden":
            text = "there is no such field: check its spelling"
        case "missing":
            text = "is missing"
        case "string_pattern_mismatch":
            text = (
                f"{found['input']!r}: use lower-case letters, digits and hyphens "
                "(underscores in signals), a letter first"
            )
        case "finite_number":
            text = f"{found['input']!r} is not a finite number"
    path = _path_in_file(found["loc"])
    if found["type"] == "value_error":
        inner = _PATH.match(text)
        if inner is not None:
            path += [int(part) if part.isdigit() else part for part in inner[1].split(".")]
            text = text[inner.end() :]
    return Problem(tuple(path), text)


def _path_in_file(location: tuple[Any, ...]) -> list[Any]:
    """A location without the tag of a union, which pydantic puts in and the file has no level of.

    It comes after the number in `rate` and `faults` and after the name in `signals`; a signal may
    well be named like a model.
    """
    parts = list(location)
    if parts[:1] in (["rate"], ["faults"]):
        del parts[2:3]
    elif parts[3:4] == ["signals"]:
        del parts[5:6]
    # And a mapping's key that is refused is told of as a level of its own.
    return parts[:-1] if parts[-1:] == ["[key]"] else parts

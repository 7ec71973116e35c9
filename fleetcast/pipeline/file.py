"""Pipeline files: read from YAML, with errors that name file, line and field."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from fleetcast.errors import UsageError
from fleetcast.pipeline.model import Pipeline
from simulator.scenario.errors import Problem, line_of, problems
from simulator.yamlfile import parse

if TYPE_CHECKING:
    from pathlib import Path

    import yaml

# Its place in the folder of a run that was driven at one.
IN_RUN = "pipeline.yaml"
WHAT = ("pipeline", "a mapping with name, stream and what readings land in")


def load(path: Path) -> Pipeline:
    """Reads a pipeline file.

    Raises:
        UsageError: it cannot be used; file, line and field are named.
    """
    value, nodes = parse(path, *WHAT)
    try:
        return Pipeline.model_validate(value)
    except ValidationError as error:
        raise UsageError(_told(path, nodes, error)[0]) from error


def complaints(path: Path) -> list[str]:
    """All that is wrong with a pipeline file, a line each; none where it can be used.

    Raises:
        UsageError: it is no YAML at all.
    """
    value, nodes = parse(path, *WHAT)
    try:
        Pipeline.model_validate(value)
    except ValidationError as error:
        return _told(path, nodes, error)
    return []


def of_run(run_dir: Path) -> Pipeline | None:
    """The pipeline that a run was driven at; None where that was a stack of ours.

    Raises:
        UsageError: its file in the run's folder cannot be used.
    """
    path = run_dir / IN_RUN
    return load(path) if path.exists() else None


def _told(path: Path, nodes: yaml.Node | None, error: ValidationError) -> list[str]:
    return [
        f"{path}:{line_of(nodes, found.path)}: {_with_hint(found)}" for found in problems(error)
    ]


def _with_hint(problem: Problem) -> Problem:
    """A field that there is not, with the one that was meant."""
    *to, last = problem.path or ("",)
    known = _fields(tuple(to))
    if not known or last in known:
        return problem
    close = difflib.get_close_matches(str(last), known, 1)
    hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
    return replace(problem, text=f"there is no such field: {hint}")


def _fields(path: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the part of a pipeline that a path leads to; none where it has none."""
    model: type[BaseModel] = Pipeline
    for step in path:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == step), None)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]

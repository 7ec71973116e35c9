"""`--set NAME=VALUE` and `--tag KEY=VALUE`: settings of the stack on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of the stack, such as shards=20. Repeatable."
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY=VALUE", help="A tag on every resource. Repeatable."),
]
# They have options of their own.
_ELSEWHERE = {"environment": "--env", "region": "--region", "tags": "--tag"}


def stack_settings(
    given: Iterable[str] | None, tags: Iterable[str] | None = None
) -> dict[str, Any]:
    """Settings by name; values are read as YAML, so that numbers and switches are what they are.

    Raises:
        UsageError: one is no NAME=VALUE, is given twice, or has an option of its own.
    """
    settings: dict[str, Any] = {}
    for name, text in _pairs("--set", given):
        if name in _ELSEWHERE:
            raise UsageError(f"--set {name}: use {_ELSEWHERE[name]} for it")
        try:
            settings[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {name}={text}: no value: {_one_line(error)}") from error
    found = dict(_pairs("--tag", tags))
    return {**settings, "tags": found} if found else settings


def _pairs(option: str, given: Iterable[str] | None) -> Iterable[tuple[str, str]]:
    seen = set()
    for pair in given or ():
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"{option} {pair}: write {option} NAME=VALUE")
        if name in seen:
            raise UsageError(f"{option} {name} is given twice")
        seen.add(name)
        yield name, text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

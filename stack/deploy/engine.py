"""The seam: what deploying and destroying is, whichever engine does it."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetcast.errors import TargetError, UsageError
from fleetcast.home import deployment_dir
from stack.outputs import FILE_NAME as OUTPUTS_FILE
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetcast.target import Target
    from stack.config import StackConfig

Engine = Literal["builtin", "terraform"]
ENGINE_FILE = "engine.json"
LOCK_FILE = "lock"
SYNTH_DIR = "synth"


def choose_engine(target: Target, engine: str | None) -> Engine:
    """The engine for a target: `builtin` locally, `terraform` on AWS, unless one is named.

    Raises:
        UsageError: there is no such engine, or not for this target.
    """
    if engine is None:
        return "builtin" if target.name == "local" else "terraform"
    if engine not in ("builtin", "terraform"):
        raise UsageError(f"unknown engine {engine!r}: use builtin or terraform")
    if engine == "builtin" and target.name != "local":
        raise UsageError("engine builtin deploys to the local cloud only: use terraform for AWS")
    return engine  # type: ignore[return-value]  # one of the two, as checked


async def deploy(
    config: StackConfig, target: Target, engine: Engine, *, progress: Callable[[str], None]
) -> StackOutputs:
    """Creates the environment, or updates it to the configuration.

    Args:
        config: What to deploy.
        target: Where to.
        engine: With which engine.
        progress: Is told each step in a line.

    Raises:
        UsageError: the configuration or the tools cannot be used; nothing was touched.
        TargetError: the target refused or failed; what was done is remembered.
    """
    from stack.synth import synthesize  # noqa: PLC0415 - starts Node

    choose_engine(target, engine)
    folder = deployment_dir(target.name, config.environment)
    with _locked(folder, config.environment):
        _claim(folder, engine, config.environment)
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            await applied.check_reachable(target)
        synthesized = synthesize(config, folder / SYNTH_DIR)
        if engine == "builtin":
            values = await applied.apply(synthesized, folder, target, progress)
        else:
            from stack.deploy import terraform  # noqa: PLC0415

            values = await terraform.apply(synthesized, folder, target, progress)
        outputs = StackOutputs.from_mapping(values)
        outputs.save(target.name)
    return outputs


async def changes(config: StackConfig, target: Target, engine: Engine) -> list[str]:
    """What a deploy would do, `action address` each; empty where nothing differs. Changes nothing.

    Raises:
        UsageError: the configuration or the tools cannot be used.
        TargetError: the target refused or failed.
    """
    from stack.synth import synthesize  # noqa: PLC0415 - starts Node

    choose_engine(target, engine)
    folder = deployment_dir(target.name, config.environment)
    with _locked(folder, config.environment), tempfile.TemporaryDirectory() as out:
        _check_claim(folder, engine, config.environment)
        synthesized = synthesize(config, Path(out))
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            await applied.check_reachable(target)
            return await applied.changes(synthesized, folder, target)
        from stack.deploy import terraform  # noqa: PLC0415

        return await terraform.changes(synthesized, folder, target)


async def destroy(
    config: StackConfig, target: Target, engine: Engine, *, progress: Callable[[str], None]
) -> None:
    """Deletes all that the environment consists of.

    Raises:
        UsageError: nothing is deployed under that name, or another engine did it.
        TargetError: the target refused or failed; what is left is remembered.
    """
    folder = deployment_dir(target.name, config.environment)
    if not (folder / ENGINE_FILE).exists():
        raise UsageError(f"nothing is deployed as {config.environment!r} on {target.name}")
    with _locked(folder, config.environment):
        _claim(folder, engine, config.environment)
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            await applied.check_reachable(target)
            await applied.destroy(folder, target, progress)
        else:
            from stack.deploy import terraform  # noqa: PLC0415

            name = f"fleetcast-{config.environment}"
            synthesized = folder / SYNTH_DIR / "stacks" / name
            await terraform.destroy(synthesized, folder, target, progress)
        (folder / OUTPUTS_FILE).unlink(missing_ok=True)
        (folder / ENGINE_FILE).unlink()
        shutil.rmtree(folder / SYNTH_DIR, ignore_errors=True)


def _check_claim(folder: Path, engine: Engine, environment: str) -> bool:
    """Whether the environment is the engine's already; two never work on one environment."""
    path = folder / ENGINE_FILE
    if not path.exists():
        return False
    other = json.loads(path.read_text())["engine"]
    if other != engine:
        raise UsageError(
            f"environment {environment!r} was deployed with engine {other}: "
            f"use --engine {other}, or destroy it first"
        )
    return True


def _claim(folder: Path, engine: Engine, environment: str) -> None:
    """Remembers the engine."""
    if not _check_claim(folder, engine, environment):
        (folder / ENGINE_FILE).write_text(json.dumps({"engine": engine}) + "\n")


@contextmanager
def _locked(folder: Path, environment: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetError(
                f"environment {environment!r} is being deployed or destroyed by another process: "
                "wait for it to end"
            ) from None
        yield

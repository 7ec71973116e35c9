"""The seam: what deploying and destroying is, whichever engine does it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fleetcast.errors import TargetError, UsageError
from fleetcast.home import deployment_dir
from stack.deploy.options import DEFAULTS, AwsOptions
from stack.names import is_production
from stack.outputs import FILE_NAME as OUTPUTS_FILE
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

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
    config: StackConfig,
    target: Target,
    engine: Engine,
    *,
    progress: Callable[[str], None],
    options: AwsOptions = DEFAULTS,
) -> StackOutputs:
    """Creates the environment, or updates it to the configuration.

    Args:
        config: What to deploy.
        target: Where to.
        engine: With which engine.
        progress: Is told each step in a line.
        options: As whom, and where the state lies.

    Raises:
        UsageError: the configuration or the tools cannot be used; nothing was touched.
        TargetError: the target refused or failed; what was done is remembered.
    """
    from stack.synth import synthesize  # noqa: PLC0415 - starts Node

    choose_engine(target, engine)
    options.check(target, engine)
    folder = deployment_dir(target.name, config.environment)
    with _locked(folder, config.environment):
        options = _claim(folder, engine, config.environment, options)
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            synthesized = await _synthesized(config, folder / SYNTH_DIR, target)
            values = await applied.apply(synthesized, folder, target, progress)
        else:
            from stack.deploy import terraform  # noqa: PLC0415

            synthesized = synthesize(config, folder / SYNTH_DIR)
            values = await terraform.apply(synthesized, folder, target, options, progress)
        outputs = StackOutputs.from_mapping(values)
        outputs.save(target.name)
    return outputs


async def changes(
    config: StackConfig, target: Target, engine: Engine, *, options: AwsOptions = DEFAULTS
) -> list[str]:
    """What a deploy would do, `action address` each; empty where nothing differs. Changes nothing.

    Raises:
        UsageError: the configuration or the tools cannot be used.
        TargetError: the target refused or failed.
    """
    from stack.synth import synthesize  # noqa: PLC0415 - starts Node

    choose_engine(target, engine)
    options.check(target, engine)
    folder = deployment_dir(target.name, config.environment)
    with _locked(folder, config.environment), tempfile.TemporaryDirectory() as out:
        options = _check_claim(folder, engine, config.environment, options)
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            synthesized = await _synthesized(config, Path(out), target)
            return await applied.changes(synthesized, folder, target)
        from stack.deploy import terraform  # noqa: PLC0415

        synthesized = synthesize(config, Path(out))
        return await terraform.changes(synthesized, folder, target, options)


async def destroy(
    config: StackConfig,
    target: Target,
    engine: Engine,
    *,
    progress: Callable[[str], None],
    options: AwsOptions = DEFAULTS,
    even_production: bool = False,
    before: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Deletes all that the environment consists of.

    Args:
        config: What was deployed.
        target: Where.
        engine: With which engine.
        progress: Is told each step in a line.
        options: As whom, and where the state lies.
        even_production: Whether an environment with the name of a production may be destroyed.
        before: Is awaited before anything is deleted, once there is something to destroy; what it
            raises ends the work.

    Raises:
        UsageError: nothing is deployed under that name, another engine did it, or it is production.
        TargetError: the target refused or failed; what is left is remembered.
    """
    options.check(target, engine)
    refuse_production(config.environment, even=even_production)
    folder = deployment_dir(target.name, config.environment)
    # With the state in a bucket, another machine can destroy what this one never deployed.
    if not (folder / ENGINE_FILE).exists() and options.state_bucket is None:
        raise UsageError(f"nothing is deployed as {config.environment!r} on {target.name}")
    with _locked(folder, config.environment):
        options = _claim(folder, engine, config.environment, options)
        if engine == "builtin":
            from stack.deploy.builtin import apply as applied  # noqa: PLC0415

            await applied.check_reachable(target)
            await _awaited(before)
            await applied.destroy(folder, target, progress)
        else:
            from stack.deploy import terraform  # noqa: PLC0415

            synthesized = folder / SYNTH_DIR / "stacks" / f"fleetcast-{config.environment}"
            if not synthesized.exists():
                from stack.synth import synthesize  # noqa: PLC0415 - starts Node

                synthesized = synthesize(config, folder / SYNTH_DIR)
            await _awaited(before)
            await terraform.destroy(synthesized, folder, target, options, progress)
        (folder / OUTPUTS_FILE).unlink(missing_ok=True)
        (folder / ENGINE_FILE).unlink()
        shutil.rmtree(folder / SYNTH_DIR, ignore_errors=True)


async def _synthesized(config: StackConfig, out: Path, target: Target) -> Path:
    """Synthesizes for a local cloud, which is asked meanwhile whether it is there.

    Raises:
        TargetError: it is not.
        UsageError: the configuration or the tools cannot be used.
    """
    from stack.deploy.builtin.apply import check_listening, check_reachable  # noqa: PLC0415
    from stack.synth import synthesize  # noqa: PLC0415 - starts Node

    await check_listening(target)
    # Most of it is waiting for Node. Both end, so that nobody writes when this is over.
    unreachable, synthesized = await asyncio.gather(
        check_reachable(target),
        asyncio.to_thread(synthesize, config, out),
        return_exceptions=True,
    )
    if unreachable is not None:
        raise unreachable
    if isinstance(synthesized, BaseException):
        raise synthesized
    return synthesized


async def _awaited(before: Callable[[], Awaitable[None]] | None) -> None:
    if before is not None:
        await before()


def refuse_production(environment: str, *, even: bool) -> None:
    """Makes sure that no production is destroyed by mistake.

    Raises:
        UsageError: it has the name of one, and `even` does not say that it may be.
    """
    if is_production(environment) and not even:
        raise UsageError(
            f"environment {environment!r} has the name of a production and is protected: "
            "destroy it with --even-production"
        )


def _check_claim(folder: Path, engine: Engine, environment: str, options: AwsOptions) -> AwsOptions:
    """Options as remembered of an environment; two engines never work on one."""
    path = folder / ENGINE_FILE
    if not path.exists():
        return options
    told = json.loads(path.read_text())
    other = told["engine"]
    if other != engine:
        raise UsageError(
            f"environment {environment!r} was deployed with engine {other}: "
            f"use --engine {other}, or destroy it first"
        )
    return options.with_remembered(told, environment)


def _claim(folder: Path, engine: Engine, environment: str, options: AwsOptions) -> AwsOptions:
    """Remembers the engine and where the state lies; returns the options as they are from now on."""
    options = _check_claim(folder, engine, environment, options)
    told = {"engine": engine, **{k: v for k, v in options.remembered().items() if v}}
    (folder / ENGINE_FILE).write_text(json.dumps(told) + "\n")
    return options


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

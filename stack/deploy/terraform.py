"""The terraform engine: real Terraform with the real provider, on AWS or on the local cloud."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetcast.errors import TargetError, UsageError
from fleetcast.target import LOCAL_ACCESS_KEY, LOCAL_SECRET_KEY
from stack.deploy.access import check_timestream
from stack.deploy.builtin.apply import check_reachable
from stack.deploy.explain import explain
from stack.preflight.document import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetcast.target import Target
    from stack.deploy.options import AwsOptions

OLDEST = (1, 5)
# Locks in S3 without a table of their own.
OLDEST_WITH_S3_LOCK = (1, 10)
OVERRIDE_FILE = "fleetcast_override.tf.json"
LOG_FILE = "terraform.log"
STATE_FILE = "terraform.tfstate"
PLAN_FILE = "plan.tfplan"
SERVICES = (
    "cloudwatch", "firehose", "iam", "iot", "kinesis", "kms", "lambda", "logs", "s3",
    "secretsmanager", "sns", "sqs", "sts", "timestreamwrite",
)  # fmt: skip
STOP_S = 60.0
_VERSION = re.compile(r"Terraform v(\d+)\.(\d+)")


async def apply(
    synthesized: Path,
    folder: Path,
    target: Target,
    options: AwsOptions,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Runs init, plan and apply; returns the outputs.

    Raises:
        UsageError: Terraform is missing or too old.
        TargetError: Terraform failed; its log is in the deployment's folder.
    """
    terraform = await _prepare(synthesized, folder, target, options)
    await check_timestream(target, options)
    progress("terraform plan")
    await terraform.run("plan", f"-out={PLAN_FILE}")
    progress("terraform apply")
    await terraform.run("apply", PLAN_FILE, progress=progress)
    told = json.loads(await terraform.read("output", "-json"))
    return {name: output["value"] for name, output in told.items()}


async def destroy(
    synthesized: Path,
    folder: Path,
    target: Target,
    options: AwsOptions,
    progress: Callable[[str], None],
) -> None:
    """Runs destroy.

    Raises:
        UsageError: Terraform is missing or too old.
        TargetError: Terraform failed; its log is in the deployment's folder.
    """
    terraform = await _prepare(synthesized, folder, target, options)
    progress("terraform destroy")
    await terraform.run("destroy", "-auto-approve", progress=progress)


async def changes(
    synthesized: Path, folder: Path, target: Target, options: AwsOptions
) -> list[str]:
    """What an apply would do: `action address (arguments)` each; empty where nothing differs.

    Raises:
        UsageError: Terraform is missing or too old.
        TargetError: Terraform failed.
    """
    terraform = await _prepare(synthesized, folder, target, options)
    await terraform.run("plan", f"-out={PLAN_FILE}")
    return read_changes(json.loads(await terraform.read("show", "-json", PLAN_FILE)))


def read_changes(plan: dict[str, Any]) -> list[str]:
    """The lines of `changes` from a plan as Terraform shows it.

    Of what differs, only arguments that the stack gives are named, not what AWS computes of them.
    """
    given = {
        resource["address"]: set(resource.get("expressions", ()))
        for resource in plan["configuration"]["root_module"].get("resources", ())
    }
    told = []
    for change in plan.get("resource_changes", ()):
        planned, address = change["change"], change["address"]
        actions = planned["actions"]
        if actions in (["no-op"], ["read"]):
            continue
        action = "/".join(actions) if len(actions) == 1 else "replace"
        line = f"{action} {address}"
        if action in {"update", "replace"}:
            before, after = planned["before"], planned["after"]
            unknown = planned.get("after_unknown") or {}
            changed = {
                # Default tags are the provider's: they show in all tags only.
                "tags" if name == "tags_all" else name
                for name in before.keys() | after.keys() | unknown.keys()
                if name in given.get(address, ()) or name == "tags_all"
                if unknown.get(name) or before.get(name) != after.get(name)
            }
            line += f" ({', '.join(sorted(changed))})"
        told.append(line)
    return told


async def validate(synthesized: Path) -> list[Finding]:
    """What Terraform and the provider have against a stack; it is copied, and nothing is changed.

    Raises:
        UsageError: Terraform is missing or too old.
        TargetError: Terraform failed, as where the provider cannot be had.
    """
    binary = await find_binary()
    with tempfile.TemporaryDirectory(prefix="fleetcast-validate-") as copy:
        folder = Path(copy) / "stack"
        shutil.copytree(synthesized, folder)
        terraform = Terraform(binary, folder, Path(copy) / LOG_FILE)
        await terraform.run("init", "-backend=false")
        told = json.loads(await terraform.read("validate", "-json", taken=(0, 1)))
    return [
        Finding(
            "terraform",
            diagnostic.get("address") or "stack",
            " ".join(f"{diagnostic['summary']} {diagnostic.get('detail', '')}".split()),
        )
        for diagnostic in told["diagnostics"]
        if diagnostic["severity"] == "error"
    ]


class Terraform:
    """The binary, in a stack's folder."""

    def __init__(self, binary: str, synthesized: Path, log: Path) -> None:
        self._binary = binary
        self._folder = synthesized
        self._log = log

    async def run(
        self, command: str, *arguments: str, progress: Callable[[str], None] | None = None
    ) -> None:
        """Runs a command that changes or checks something; its output goes to the log.

        A cancelled run interrupts Terraform, which then ends what it began and keeps its state.

        Raises:
            TargetError: it failed, with the first of its errors in one line.
        """
        process = await self._start(command, "-json", *self._no_questions(command), *arguments)
        errors: list[str] = []
        try:
            if process.stdout is None:
                raise TargetError("terraform has no output")
            with self._log.open("a") as log:
                async for line in process.stdout:
                    log.write(line.decode("utf-8", "replace"))
                    _read_line(line, errors, progress)
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_S)
            raise
        if code:
            # The first error, unless the cause of one is known.
            told = [explain(error) for error in errors] or [f"exit code {code}"]
            known = [now for now, error in zip(told, errors, strict=False) if now != error]
            raise TargetError(f"terraform {command}: {(known or told)[0]} (all of it: {self._log})")

    async def read(self, command: str, *arguments: str, taken: tuple[int, ...] = (0,)) -> str:
        """Runs a command that tells something; returns what it prints.

        Args:
            command: Terraform's command.
            arguments: Its arguments.
            taken: Exit codes with which it has told what was asked.

        Raises:
            TargetError: it failed.
        """
        process = await self._start(command, *arguments)
        out, _ = await process.communicate()
        if process.returncode not in taken:
            raise TargetError(f"terraform {command} failed with exit code {process.returncode}")
        return out.decode()

    @staticmethod
    def _no_questions(command: str) -> tuple[str, ...]:
        return ("-input=false",) if command in {"init", "plan", "apply", "destroy"} else ()

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._binary,
            *arguments,
            cwd=self._folder,
            env={**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=16 * 1024 * 1024,
            # Ctrl-C at a terminal goes to us alone, and we pass it on once.
            start_new_session=True,
            # States and plans have the signing key in them.
            umask=0o077,
        )


async def find_binary(oldest: tuple[int, int] = OLDEST) -> str:
    """The terraform binary: `FLEETCAST_TERRAFORM`, or the first on the path.

    Raises:
        UsageError: there is none, or it is too old.
    """
    wanted = os.environ.get("FLEETCAST_TERRAFORM", "terraform")
    binary = shutil.which(wanted)
    needed = f"Terraform {oldest[0]}.{oldest[1]} or newer"
    if oldest > OLDEST:
        needed += " (for a state in S3 with a lock)"
    if binary is None:
        raise UsageError(f"{needed} is needed and {wanted!r} was not found: install it")
    process = await asyncio.create_subprocess_exec(
        binary, "version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    found = _VERSION.search(out.decode("utf-8", "replace"))
    version = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if version < oldest:
        told = f"{version[0]}.{version[1]}" if found else "something else"
        raise UsageError(f"{needed} is needed and {binary} is {told}: upgrade it")
    return binary


async def _prepare(
    synthesized: Path, folder: Path, target: Target, options: AwsOptions
) -> Terraform:
    binary = await find_binary(OLDEST_WITH_S3_LOCK if options.state_bucket else OLDEST)
    if target.name == "local":
        await check_reachable(target)
    environment = synthesized.name.removeprefix("fleetcast-")
    override = _override(environment, folder, target, options)
    (synthesized / OVERRIDE_FILE).write_text(json.dumps(override, indent=1) + "\n")
    terraform = Terraform(binary, synthesized, folder / LOG_FILE)
    await terraform.run("init", "-reconfigure")
    return terraform


def _override(
    environment: str, folder: Path, target: Target, options: AwsOptions
) -> dict[str, Any]:
    """What is Terraform's business alone, beside the synthesized stack: the state, and as whom."""
    if options.state_bucket:
        arguments = options.backend(environment, target)
        if target.endpoint_url is not None:
            arguments |= _local_backend(target.endpoint_url)
        backend = {"s3": arguments}
    else:
        # The state stays beside the outputs, however often the stack is synthesized.
        backend = {"local": {"path": str(folder / STATE_FILE)}}
    override: dict[str, Any] = {"terraform": {"backend": backend}}
    provider = options.provider()
    if target.endpoint_url is not None:
        provider |= _local_provider(target.endpoint_url)
    if provider:
        override["provider"] = {"aws": [provider]}
    return override


def _local_backend(endpoint_url: str) -> dict[str, Any]:
    return {
        "access_key": LOCAL_ACCESS_KEY,
        "secret_key": LOCAL_SECRET_KEY,
        "skip_credentials_validation": True,
        "skip_metadata_api_check": True,
        "skip_requesting_account_id": True,
        "use_path_style": True,
        "endpoints": {"s3": endpoint_url, "sts": endpoint_url},
    }


def _local_provider(endpoint_url: str) -> dict[str, Any]:
    return {
        "access_key": LOCAL_ACCESS_KEY,
        "secret_key": LOCAL_SECRET_KEY,
        "skip_credentials_validation": True,
        "skip_metadata_api_check": "true",
        "s3_use_path_style": True,
        "endpoints": [dict.fromkeys(SERVICES, endpoint_url)],
    }


def _read_line(line: bytes, errors: list[str], progress: Callable[[str], None] | None) -> None:
    try:
        told = json.loads(line)
    except ValueError:
        return
    if told.get("@level") == "error":
        diagnostic = told.get("diagnostic") or {}
        where = diagnostic.get("address", "")
        text = " ".join((diagnostic.get("summary", told.get("@message", "")),
                         diagnostic.get("detail", "")))  # fmt: skip
        errors.append(" ".join(f"{where} {text}".split()))
    elif told.get("type") == "apply_complete" and progress:
        hook = told["hook"]
        seconds = hook.get("elapsed_seconds", 0)
        progress(f"{hook['action']}d {hook['resource']['addr']} ({seconds} s)")

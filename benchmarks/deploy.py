"""Deploying the whole stack to a local cloud, with both engines, as a user calls them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from fleetcast import cloudctl

ENGINES = ("builtin", "terraform")


@dataclass(frozen=True)
class Took:
    """Of one command: seconds on the wall, and CPU-seconds of it and its children."""

    wall_s: float
    cpu_s: float


def call(environment: dict[str, str], *arguments: str) -> Took:
    """Calls a command of fleetcast."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "fleetcast", *arguments],
        env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.monotonic() - began, cpu_s)


def have_terraform() -> bool:
    """Whether Terraform is here, with somewhere to have its provider from."""
    return bool(shutil.which("terraform") and os.environ.get("TF_CLI_CONFIG_FILE"))


def main() -> None:
    """Prints a table."""
    rows: dict[str, list[Took]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine in ENGINES:
            if engine == "terraform" and not have_terraform():
                continue
            home = f"{folder}/{engine}"
            environment = {
                **os.environ,
                "FLEETCAST_HOME": home,
                "FLEETCAST_PORT": str(cloudctl.free_port()),
            }
            call(environment, "cloud", "start")
            try:
                here = ("--env", "bench", "--engine", engine)
                for what, more in (
                    ("deploy", ()), ("deploy again, no change", ()), ("plan", ("--plan",)),
                ):  # fmt: skip
                    took = call(environment, "deploy", *here, *more)
                    rows.setdefault(what, []).append(took)
                rows.setdefault("destroy", []).append(call(environment, "destroy", *here))
            finally:
                call(environment, "cloud", "stop")
    engines = ENGINES if have_terraform() else ENGINES[:1]
    print(f"| what | {' | '.join(f'{e}, s | {e}, CPU-s' for e in engines)} |")
    print("|---|" + "---|" * 2 * len(engines))
    for what, took in rows.items():
        print(f"| {what} | {' | '.join(f'{t.wall_s:.1f} | {t.cpu_s:.1f}' for t in took)} |")
    if len(engines) < len(ENGINES):
        print("\nTerraform, or a mirror of its provider (TF_CLI_CONFIG_FILE), is not here.")
    print(
        "\nSynthesis in a new process (Python, Node, the bindings) is in each, but not in destroy."
    )


if __name__ == "__main__":
    main()

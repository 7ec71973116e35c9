from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fleetcast import cloudctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FleetcastCommand = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment for commands: folders and a port of the module's own."""
    folder: Path = tmp_path_factory.mktemp("cli")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST")},
        "FLEETCAST_HOME": str(folder / "home"),
        "FLEETCAST_RUNS": str(folder / "runs"),
        "FLEETCAST_PORT": str(cloudctl.free_port()),
    }


@pytest.fixture(scope="module")
def fleetcast(place: dict[str, str]) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Runs the command line in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fleetcast", *arguments],
            env=place, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    yield run
    run("cloud", "stop")


@pytest.fixture(scope="module")
def deployed(fleetcast: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """A local cloud of the module's own with the stack `dev`."""
    assert fleetcast("cloud", "start").returncode == 0
    done = fleetcast("deploy")
    assert done.returncode == 0, done.stderr

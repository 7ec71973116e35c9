"""The nightly script with stand-ins for the commands: their order, and that the end always comes."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "nightly"
# Writes down what it was called with, remembers a deployment as the real one does, and fails or
# hangs where it is told to.
STAND_IN = """#!/usr/bin/env python3
import json, os, pathlib, sys, time
name = pathlib.Path(sys.argv[0]).name
called = [name, *sys.argv[1:]]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(called) + "\\n")
home = pathlib.Path(os.environ["FLEETCAST_HOME"], "deployments", "aws-nightly-7")
if called[1] == "deploy":
    home.mkdir(parents=True)
    (home / "engine.json").write_text("{}")
if called[1] == "destroy":
    (home / "engine.json").unlink()
print("said by", *called[:2])
if called[1] == os.environ.get("HANG"):
    pathlib.Path(os.environ["CALLS"] + ".hangs").touch()
    time.sleep(60)
sys.exit(called[1] == os.environ.get("FAIL"))
"""


class Night:
    """One night with stand-ins in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        bin_ = folder / "bin"
        bin_.mkdir()
        for name in ("fleetcast", "python", "locust"):
            (bin_ / name).write_text(STAND_IN)
            (bin_ / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "CALLS": str(folder / "calls"),
            "FLEETCAST_ALERT": 'echo "$FLEETCAST_ALERT_TEXT" > "$CALLS.alert"',
            "FLEETCAST_BIN": str(bin_),
            "FLEETCAST_ENV": "nightly-7",
            "FLEETCAST_HOME": str(folder / "home"),
            "FLEETCAST_RESULTS": str(self.results),
            "FLEETCAST_STATE_BUCKET": "our-states",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SCRIPT, *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def calls(self) -> list[list[str]]:
        path = Path(self.environment["CALLS"])
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def steps(self) -> list[str]:
        """What was called: the command's verb, or the tool."""
        return [call[1] if call[0] == "fleetcast" else call[0] for call in self.calls]

    @property
    def alert(self) -> str:
        path = Path(self.environment["CALLS"] + ".alert")
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


WHOLE = ["sweep", "stack", "deploy", "python", "locust", "destroy"]


def test_a_night_sweeps_deploys_tests_loads_and_destroys(night: Night) -> None:
    code, said = night.run()
    assert code == 0, said
    assert night.steps == WHOLE
    assert said.endswith(f"nightly nightly-7 passed: {night.results}\n")
    assert night.alert == ""
    sweep, check, deploy, e2e, load, destroy = night.calls
    old = ["--older-than", "24h", "--prefix", "nightly-"]
    assert sweep[2:] == ["--target", "aws", *old, "--yes", "--state-bucket", "our-states"]
    assert "--validate" in check
    assert deploy[-2:] == destroy[-2:] == ["--state-bucket", "our-states"]
    assert e2e[e2e.index("--junitxml") + 1] == str(night.results / "e2e.xml")
    assert "--keep" in e2e
    assert load[load.index("--fleet-env") + 1] == "nightly-7"
    assert (night.results / "deploy.log").read_text() == "said by fleetcast deploy\n"


@pytest.mark.parametrize(
    ("fails", "steps", "told"),
    [
        ("sweep", WHOLE, "sweep"),
        ("stack", ["sweep", "stack"], "check"),
        ("deploy", ["sweep", "stack", "deploy", "destroy"], "deploy"),
        ("-m", WHOLE, "e2e"),
        ("-f", WHOLE, "load"),
        ("destroy", WHOLE, "destroy"),
    ],
)
def test_a_step_that_fails_is_told_and_the_stack_is_destroyed_nevertheless(
    night: Night, fails: str, steps: list[str], told: str
) -> None:
    code, said = night.run(FAIL=fails)
    assert code == 1, said
    assert night.steps == steps
    assert night.alert == f"nightly nightly-7 failed: {told}"
    assert night.alert in said


def test_a_night_that_is_interrupted_destroys_what_it_deployed(night: Night) -> None:
    process = night.start(HANG="-m")
    hangs = Path(night.environment["CALLS"] + ".hangs")
    deadline = time.monotonic() + 60
    while not hangs.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=50)
    assert process.returncode == 1, said
    assert night.steps == ["sweep", "stack", "deploy", "python", "destroy"]
    assert night.alert == "nightly nightly-7 failed: interrupted (143)"


def test_two_nights_at_once_are_refused(night: Night) -> None:
    home = Path(night.environment["FLEETCAST_HOME"])
    home.mkdir()
    with (home / "nightly.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = night.run()
    assert code == 3
    assert said.startswith("another nightly run is under way on this machine: ")
    assert night.calls == []


def test_destroy_alone_destroys_what_stands_and_nothing_where_nothing_does(night: Night) -> None:
    assert night.run("destroy")[0] == 0
    assert night.calls == []
    folder = Path(night.environment["FLEETCAST_HOME"], "deployments", "aws-nightly-7")
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text("{}")
    assert night.run("destroy")[0] == 0
    assert night.steps == ["destroy"]


def test_the_suffix_that_is_made_up_is_one_that_the_stack_takes(night: Night) -> None:
    from stack.config import StackConfig  # noqa: PLC0415

    del night.environment["FLEETCAST_ENV"]
    night.run(FAIL="stack")
    (check,) = [call for call in night.calls if call[1] == "stack"]
    environment: Any = check[check.index("--env") + 1]
    assert environment.startswith("nightly-")
    assert StackConfig.for_target("aws", environment)

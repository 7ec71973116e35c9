"""The pytest plugin, as a repository of somebody else's uses it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "pytest"


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("FLEETCAST", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_the_example_of_the_documentation_passes_on_a_stack_of_its_own(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "repository")
    done = run_pytest(tmp_path / "repository")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert not (tmp_path / "repository" / "runs").exists()


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown[0] == (EXAMPLE / "conftest.py").read_text()
    assert (EXAMPLE / "test_cold_chain.py").read_text().startswith(shown[1])


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((EXAMPLE / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text((EXAMPLE / "pytest.ini").read_text())
    (tmp_path / "test_it.py").write_text("async def test_it(fleet): pass\n")
    for words, line in (
        (("--fleet-env", "nowhere"), "no stack 'nowhere' on target local: run fleetcast deploy"),
        (("--fleet-target", "aws"), "--fleet-target aws needs --fleet-env"),
    ):
        done = run_pytest(tmp_path, *words)
        assert done.returncode == 1
        assert line in done.stdout
        assert "Traceback" not in done.stdout


def test_a_run_that_fails_says_why_and_a_scenario_that_is_none_is_told(tmp_path: Path) -> None:
    for name in ("conftest.py", "pytest.ini"):
        (tmp_path / name).write_text((EXAMPLE / name).read_text())
    (tmp_path / "test_it.py").write_text(
        """
import pytest
from fleetcast.errors import UsageError

FLEET = {"devices": 5, "classes": [{"name": "a", "share": 1,
         "signals": {"t": {"model": "constant", "value": 1}}}]}
RATE = [{"shape": "constant", "rate": "10/s", "duration": "2s"}]

async def test_never(fleet):
    asked = {"rate_error_pct": None, "landing_latency_p99": "1ms"}
    run = await fleet.run({"name": "hasty", "fleet": FLEET, "rate": RATE, "expect": asked})
    assert run.verdict.acked == 20
    assert run.fired("critical-readings") is None
    assert run.passed, run.why

async def test_none(fleet):
    with pytest.raises(UsageError, match="scenario in a test: rate: is missing"):
        await fleet.run({"name": "none", "fleet": FLEET})
"""
    )
    done = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert re.search(r"FAILED +landing_latency: p99 \d+ ms, allowed 1 ms", done.stdout)
    assert "report.html" in done.stdout

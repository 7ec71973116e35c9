"""docs/bring-your-own.md's pipeline, which is none of ours: driven, verified, and found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-pipeline"
FILE, SCENARIO = str(EXAMPLE / "pipeline.yaml"), str(EXAMPLE / "scenario.yaml")


@pytest.fixture(scope="module")
def built(fleetcast: Callable[..., Any], place: dict[str, str]) -> None:
    """The example's pipeline on a local cloud."""
    assert fleetcast("cloud", "start").returncode == 0
    build(place, EXAMPLE / "writer.py")


def build(place: dict[str, str], writer: Path) -> None:
    aws = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{place['FLEETCAST_PORT']}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "WRITER": str(writer),
    }
    done = subprocess.run(
        [sys.executable, EXAMPLE / "build.py"],
        env={**os.environ, **aws}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("built")
def test_the_example_is_checked_driven_and_verified(
    fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    checked = fleetcast("pipeline", "check", FILE, "--scenario", SCENARIO)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "stream          ok         plant-ingest: ACTIVE, 2 shards" in checked.stdout
    assert "signing_secret  not named  readings are not signed" in checked.stdout
    assert "holds nothing yet" in checked.stdout

    done = fleetcast("simulate", SCENARIO, "--pipeline", FILE, "--run-id", "own")
    assert done.returncode == 0, done.stderr
    verified = fleetcast("verify", "own", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    verdict = json.loads(verified.stdout)
    assert verdict["environment"] == "plant"
    assert verdict["landed"]["timeseries"]["unique"] == 1000
    assert verdict["landed"]["archive"]["unique"] == 1000
    assert {alarm["name"]: alarm["ok"] for alarm in verdict["alarms"]} == {"critical-readings": True}
    assert [one["name"] for one in verdict["not_checked"]] == ["timeseries.content"]
    assert verdict["not_checked"][0]["why"] == "not mapped: class, site"
    page = Path(place["FLEETCAST_RUNS"]) / "own" / "report.html"
    assert "Not checked: timeseries.content." in page.read_text()

    again = fleetcast("pipeline", "check", FILE, "--json")
    points = {point["name"]: point for point in json.loads(again.stdout)}
    assert "7 columns are there" in points["timeseries"]["detail"]
    assert "lines that can be read" in points["archive"]["detail"]

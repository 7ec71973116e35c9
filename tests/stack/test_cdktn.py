"""The same sources under CDKTF's continuation: `make cdktn` compares; here is what compares."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("cdktn", ROOT / "scripts" / "compare_cdktn.py")
assert _spec
assert _spec.loader
script: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def stack(**resource: Any) -> bytes:
    return json.dumps({"//": {"version": "1"}, "resource": {"x": resource}}).encode()


def test_what_the_kits_note_about_themselves_makes_no_difference() -> None:
    one = {"a.json": stack(name="n", **{"//": {"path": "p"}}), "b.zip": b"1"}
    other = {"a.json": stack(name="n").replace(b'"1"', b'"2"'), "b.zip": b"1"}
    assert script.compare(one, other) == []


def test_whatever_else_differs_is_told_by_its_place() -> None:
    one = {"a.json": stack(name="n", list=[{"a": 1}]), "b.zip": b"1"}
    other = {"a.json": stack(name="m", list=[{"a": 1}], more=2), "b.zip": b"2", "c": b""}
    assert script.compare(one, other) == [
        "resource.x.more: cdktf None, cdktn 2",
        "resource.x.name: cdktf 'n', cdktn 'm'",
        "b.zip: not the same file in both",
        "c: not the same file in both",
    ]


@pytest.mark.parametrize(
    ("kit", "text"),
    [
        ("cdk8s", "FLEETCAST_CDK=cdk8s is none of cdktf, cdktn"),
        ("cdktn", "cdktn is not installed: see make cdktn"),
    ],
)
def test_a_kit_that_is_not_there_is_told_in_a_line(kit: str, text: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetcast", "synth", "--out", str(tmp_path)],
        env={**os.environ, "FLEETCAST_CDK": kit},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, f"fleetcast: {text}\n")


@pytest.mark.skipif(
    not (ROOT / ".cdktn" / ".ready").exists(), reason="cdktn is not installed: make cdktn"
)
def test_the_stack_is_the_same_from_both_kits() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare_cdktn.py", ROOT / ".cdktn/bin/python"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("the same ")

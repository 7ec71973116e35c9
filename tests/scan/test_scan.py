"""The stack under checkov, and the workflows under their schema and zizmor."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from stack.config import StackConfig
from stack.synth import synthesize

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
_spec = importlib.util.spec_from_file_location("scan_stack", ROOT / "scripts" / "scan_stack.py")
assert _spec
assert _spec.loader
scan_stack: Any = importlib.util.module_from_spec(_spec)
sys.modules["scan_stack"] = scan_stack
_spec.loader.exec_module(scan_stack)

needs_tools = pytest.mark.skipif(
    not (scan_stack.TOOLS / "bin" / "checkov").exists(),
    reason="the scanners are not installed: make scan-tools",
)
Finding = scan_stack.Finding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack as it is for AWS."""
    return synthesize(StackConfig.for_target("aws", "tst"), tmp_path_factory.mktemp("scan"))


@needs_tools
def test_every_finding_in_the_stack_is_explained_and_a_new_one_is_told(
    folder: Path, tmp_path: Path
) -> None:
    found, passed = scan_stack.scan(folder)
    assert scan_stack.judge(found, scan_stack.suppressed()) == []
    assert passed > 80

    worse = tmp_path / "worse"
    shutil.copytree(folder, worse)
    written = json.loads((worse / "cdk.tf.json").read_text())
    del written["resource"]["aws_kinesis_stream"]["ingest"]["encryption_type"]
    del written["resource"]["aws_sns_topic"]["alarms-topic"]["kms_master_key_id"]
    (worse / "cdk.tf.json").write_text(json.dumps(written))
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "scan_stack.py", worse],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert any(line.startswith("CKV_AWS_43 ") and "ingest" in line for line in told)
    assert any(line.startswith("CKV_AWS_26 ") and "alarms-topic" in line for line in told)
    assert told[-1].endswith(f"{len(told) - 1} of them new")


def test_what_nothing_explains_and_what_explains_nothing_is_told() -> None:
    found = [Finding("A", "x", "text"), Finding("B", "x", "text")]
    assert scan_stack.judge(found, {("A", "x"): "", ("B", "x"): ""}) == []
    assert scan_stack.judge(found, {("A", "x"): "", ("C", "y"): ""}) == [
        "B x: text",
        "C y: is suppressed, and not found any more",
    ]


def test_a_suppression_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "suppressions.yaml"
    path.write_text("- {check: A, resources: [x], reason: because}\n")
    with pytest.raises(SystemExit, match="A needs a reason"):
        scan_stack.suppressed(path)


def test_tools_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_stack, "TOOLS", tmp_path)
    with pytest.raises(SystemExit, match="is not there: run make scan-tools"):
        scan_stack.scan(tmp_path)


def _lint(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [scan_stack.TOOLS / "bin" / tool, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


SCHEMA = ("--builtin-schema", "vendor.github-workflows")
ZIZMOR = ("--offline", "--no-progress", "--persona", "pedantic")


@needs_tools
def test_the_workflows_are_valid_and_safe() -> None:
    paths = sorted(WORKFLOWS.glob("*.yml"))
    assert paths
    valid = _lint("check-jsonschema", *SCHEMA, *paths)
    assert valid.returncode == 0, valid.stdout
    safe = _lint("zizmor", *ZIZMOR, WORKFLOWS)
    assert safe.returncode == 0, safe.stdout + safe.stderr


@needs_tools
@pytest.mark.parametrize(
    ("before", "after", "tool", "told"),
    [
        ("runs-on: ubuntu-24.04", "run-on: ubuntu-24.04", "check-jsonschema", "run-on"),
        ("permissions: {}", "permissions: write-all", "zizmor", "excessive-permissions"),
        (
            "@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2", "@v4", "zizmor", "unpinned-uses"
        ),
        (
            "run: scripts/nightly\n", "run: scripts/nightly ${{ github.head_ref }}\n", "zizmor",
            "template-injection",
        ),
    ],
)  # fmt: skip
def test_a_workflow_that_is_wrong_or_unsafe_is_found(
    tmp_path: Path, before: str, after: str, tool: str, told: str
) -> None:
    text = (WORKFLOWS / "nightly.yml").read_text()
    assert before in text
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "nightly.yml").write_text(text.replace(before, after, 1))
    arguments = SCHEMA if tool == "check-jsonschema" else ZIZMOR
    done = _lint(tool, *arguments, folder / "nightly.yml")
    assert done.returncode != 0
    assert told in done.stdout + done.stderr


@pytest.fixture(scope="module")
def nightly() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load((WORKFLOWS / "nightly.yml").read_text())
    return told


def _steps(job: dict[str, Any], having: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if having(step)]


def test_the_night_is_guarded_destroyed_kept_and_told_of(nightly: dict[str, Any]) -> None:
    assert nightly["concurrency"] == {"group": "nightly", "cancel-in-progress": False}
    night, alert = nightly["jobs"]["nightly"], nightly["jobs"]["alert"]
    assert night["permissions"] == {"contents": "read", "id-token": "write"}
    (role,) = _steps(night, lambda s: "configure-aws-credentials" in s.get("uses", ""))
    assert "role-to-assume" in role["with"]
    assert not any("secret-access-key" in key for key in role["with"])
    (destroy,) = _steps(night, lambda s: s.get("run") == "scripts/nightly destroy")
    (kept,) = _steps(night, lambda s: "upload-artifact" in s.get("uses", ""))
    assert destroy["if"] == kept["if"] == "always()"
    assert night["steps"].index(destroy) < night["steps"].index(kept)
    assert kept["with"]["path"] == night["env"]["FLEETCAST_RESULTS"]
    assert alert["needs"] == "nightly"
    assert "failure" in alert["if"]
    assert "cancelled" in alert["if"]


def test_the_suffix_of_a_night_is_unique_swept_and_one_that_the_stack_takes(
    nightly: dict[str, Any],
) -> None:
    suffix = nightly["jobs"]["nightly"]["env"]["FLEETCAST_ENV"]
    assert suffix == "nightly-${{ github.run_number }}-${{ github.run_attempt }}"
    # 99,999 nights, and 99 attempts of one.
    longest = suffix.replace("${{ github.run_number }}", "9" * 5)
    longest = longest.replace("${{ github.run_attempt }}", "99")
    assert StackConfig.for_target("aws", longest)
    assert "--prefix nightly-" in (ROOT / "scripts" / "nightly").read_text()


def test_what_the_container_copies_is_there() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    copied = [line.split()[2] for line in lines if line.startswith("COPY --chown")]
    assert copied == ["requirements.lock", "."]
    assert 'ENTRYPOINT ["scripts/nightly"]' in lines
    assert (ROOT / "scripts" / "nightly").stat().st_mode & 0o111
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".venv", ".git", "runs"} <= set(ignored)

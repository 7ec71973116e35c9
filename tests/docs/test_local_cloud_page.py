"""docs/local-cloud.md agrees with what the local cloud serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from localcloud.faults.partial import BATCHES
from localcloud.faults.spec import FaultSpec, parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "local-cloud.md").read_text(encoding="utf-8")


def test_the_operations_are_those_of_the_code() -> None:
    script = ROOT / "scripts" / "local_cloud_page.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_member_of_a_fault_and_every_batch_is_described() -> None:
    assert [name for name in FaultSpec.model_fields if f"`{name}`" not in PAGE] == []
    for service, operation in BATCHES:
        assert f"{service}:{operation}" in PAGE


def test_the_faults_shown_can_be_added() -> None:
    shown = re.findall(r"-d '(\{.*?\})'", PAGE, re.DOTALL)
    assert shown
    for text in shown:
        parse(json.loads(text))

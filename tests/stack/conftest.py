from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYNTHESIZE = (
    "import json, sys; from pathlib import Path; from stack.config import StackConfig; "
    "from stack.synth import synthesize; "
    "synthesize(StackConfig.for_target(**json.loads(sys.argv[1])), Path(sys.argv[2]))"
)


@pytest.fixture(scope="session")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a stack that is synthesized in a process of its own, with its hashes' seed."""

    def make(environment: str, seed: int = 0, **settings: Any) -> Path:
        out = tmp_path_factory.mktemp("synth")
        config = json.dumps({"target": "aws", "environment": environment, **settings})
        subprocess.run(
            [sys.executable, "-c", SYNTHESIZE, config, str(out)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            timeout=120,
        )
        return out / "stacks" / f"fleetcast-{environment}"

    return make


@pytest.fixture(scope="session")
def stack_folder(synthesized: Callable[..., Path]) -> Path:
    """The folder of the whole stack as it is for AWS."""
    return synthesized("tst")


@pytest.fixture(scope="session")
def stack(stack_folder: Path) -> dict[str, Any]:
    """Its JSON."""
    written: dict[str, Any] = json.loads((stack_folder / "cdk.tf.json").read_text())
    return written

"""Synthesizes the same sources with cdktf and with cdktn, its continuation, and compares the JSON.

    make cdktn        installs cdktn and its AWS bindings apart, then runs this

What the kits note about themselves (under `//`: versions, paths of constructs) is left out. Exit 1
where anything else differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SYNTHESIZE = (
    "import sys; from pathlib import Path; from stack.config import StackConfig; "
    "from stack.synth import synthesize; "
    "print(synthesize(StackConfig.for_target('aws', 'cdk'), Path(sys.argv[1])))"
)


def synthesized(python: str, kit: str, out: Path) -> dict[str, bytes]:
    """Every file of the stack that a Python with a kit synthesizes, by its relative path.

    Raises:
        SystemExit: it could not; its last line is told.
    """
    done = subprocess.run(  # noqa: S603 - a Python of ours
        [python, "-c", SYNTHESIZE, str(out)],
        env={**os.environ, "FLEETCAST_CDK": kit, "PYTHONPATH": str(ROOT)},
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{kit}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    folder = Path(done.stdout.strip().splitlines()[-1])
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def plain(value: Any) -> Any:
    """A value without what the kit notes about itself."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items() if name != "//"}
    return [plain(member) for member in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two values differ, a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for name in sorted(one.keys() | other.keys())
            for line in differences(one.get(name), other.get(name), f"{where}.{name}".lstrip("."))
        ]
    return [] if one == other else [f"{where}: cdktf {one!r}, cdktn {other!r}"]


def compare(cdktf: dict[str, bytes], cdktn: dict[str, bytes]) -> list[str]:
    """Where two synthesized stacks differ, JSON by its members and other files by their bytes."""
    lines = []
    for name in sorted(cdktf.keys() | cdktn.keys()):
        if name.endswith(".json") and name in cdktf and name in cdktn:
            lines += differences(plain(json.loads(cdktf[name])), plain(json.loads(cdktn[name])))
        elif cdktf.get(name) != cdktn.get(name):
            lines.append(f"{name}: not the same file in both")
    return lines


def main() -> int:
    """Compares; the first argument is the Python that has cdktn."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the name and the Python
        sys.exit("usage: compare_cdktn.py PYTHON_WITH_CDKTN")
    # Not resolved: a virtual environment's Python is a link, and known by where it lies.
    python = str(Path(sys.argv[1]).absolute())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        cdktf = synthesized(sys.executable, "cdktf", Path(one))
        cdktn = synthesized(python, "cdktn", Path(other))
    lines = compare(cdktf, cdktn)
    told = f"{len(lines)} differences" if lines else f"the same {len(cdktf)} files from both kits"
    print("\n".join([*lines, told]))  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

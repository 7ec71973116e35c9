"""Runs every benchmark in this folder, one after the other, and writes RESULTS.md.

A benchmark is a script that prints Markdown to standard output and exits 0. Figures are ratios
measured side by side and CPU-seconds: absolute times depend on the machine and on its neighbours.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Runs the benchmarks; returns 1 if one of them failed."""
    scripts = sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)
    chosen = sys.argv[1:]
    if chosen:
        scripts = [path for path in scripts if path.stem in chosen]
    parts = [
        "# Benchmark results",
        "",
        "Written by `make bench`. Ratios were measured side by side in one run; CPU-seconds count",
        "user and system time. Absolute figures are this machine's.",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, {platform.machine()}."
        ),
    ]
    failed = False
    for script in scripts:
        print(f"running {script.name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-P", str(script)], capture_output=True, text=True, check=False
        )
        parts += ["", f"## {script.stem}", "", done.stdout.strip()]
        if done.returncode:
            failed = True
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            parts += ["", f"Failed: {last}"]
            print(f"{script.name} failed: {last}", file=sys.stderr)
    (HERE / "RESULTS.md").write_text("\n".join(parts) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Runs every benchmark in this folder, one after the other, and writes RESULTS.md.

A benchmark is a script that prints Markdown to standard output and exits 0. Figures are ratios
measured side by side and CPU-seconds: absolute times depend on the machine and on its neighbours.
Named on the command line, only those are run, and what the file says of others stays.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
HEADER = """# Benchmark results

Written by `make bench`. Ratios were measured side by side in one run; CPU-seconds count
user and system time. Absolute figures are of the machine, and of what else it had to do: the load
average when a benchmark began is told with it, and is 0 on a machine that is otherwise idle.
"""


def before(text: str) -> dict[str, str]:
    """What a file of results says, by benchmark."""
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {name: rest.strip() for name, _, rest in (part.partition("\n") for part in parts)}


def circumstances() -> str:
    """When and where something is measured."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{platform.machine()}, load average {os.getloadavg()[0]:.1f}."
    )


def main() -> int:
    """Runs the benchmarks; returns 1 if one of them failed, 2 if there is none of a name."""
    scripts = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.name != "run_all.py"}
    chosen = sys.argv[1:] or list(scripts)
    if unknown := [name for name in chosen if name not in scripts]:
        print(f"no benchmark {unknown[0]!r}: use {', '.join(scripts)}", file=sys.stderr)
        return 2
    results = before(RESULTS.read_text()) if RESULTS.exists() else {}
    failed = False
    for name in chosen:
        print(f"running {name}", file=sys.stderr, flush=True)
        where = circumstances()
        done = subprocess.run(
            [sys.executable, "-P", str(scripts[name])], capture_output=True, text=True, check=False
        )
        results[name] = f"{where}\n\n{done.stdout.strip()}"
        if done.returncode:
            failed = True
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            results[name] += f"\n\nFailed: {last}"
            print(f"{name} failed: {last}", file=sys.stderr)
        told = [f"## {one}\n\n{results[one]}\n" for one in scripts if one in results]
        RESULTS.write_text("\n".join([HEADER, *told]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

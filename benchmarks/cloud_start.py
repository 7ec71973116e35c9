"""The local cloud alone: from a call to healthy, at rest with the stack deployed, and taking back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fleetcast import cloudctl

STARTS = 5
IDLE_S = 60.0


def call(environment: dict[str, str], *arguments: str) -> None:
    """Calls a command of fleetcast."""
    subprocess.run(
        [sys.executable, "-m", "fleetcast", *arguments],
        env=environment, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def started(data: Path | None = None) -> tuple[float, dict[str, Any], int]:
    """(seconds until it was healthy, what it tells then, its port) of a cloud that was started."""
    port, began = cloudctl.free_port(), time.monotonic()
    cloudctl.start(port, data=data)
    return time.monotonic() - began, cloudctl.status(port), port


def main() -> None:
    """Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        print("| what | seconds until healthy | CPU-seconds | MiB |\n|---|---|---|---|")
        walls, told = [], {}
        for _ in range(STARTS):
            wall_s, told, port = started()
            walls.append(wall_s)
            cloudctl.stop(port)
        print(
            f"| start, the median of {STARTS} | {sorted(walls)[STARTS // 2]:.2f} "
            f"| {told['cpu_s']} | {told['memory_mib']} |"
        )
        data = Path(folder, "data")
        _, _, port = started(data)
        environment = {
            **os.environ,
            "FLEETCAST_PORT": str(port),
            "FLEETCAST_RUNS": f"{folder}/runs",
        }
        call(environment, "deploy", "--env", "bench")
        before = cloudctl.status(port)
        time.sleep(IDLE_S)
        after = cloudctl.status(port)
        idle_s = after["cpu_s"] - before["cpu_s"]
        print(
            f"| the stack deployed, {IDLE_S:.0f} s at rest | | {idle_s:.2f} | {after['memory_mib']} |"
        )
        call(
            environment, "simulate", "cold-chain", "--env", "bench",
            "--rate", "2000/s", "--duration", "50s",
        )  # fmt: skip
        cloudctl.stop(port)
        wall_s, told, port = started(data)
        tables = told["services"]["timestream"]["tables"]
        print(
            f"| start with what is kept of {sum(tables.values()):,} readings "
            f"({told['data']['mib']} MiB) | {wall_s:.2f} | {told['cpu_s']} | {told['memory_mib']} |"
        )
        cloudctl.stop(port)
    print(
        f"\n100 minutes at rest would cost {idle_s / IDLE_S * 6000:.0f} CPU-seconds: alarms are "
        "evaluated every ten seconds, and delivery and mapping look for new shards."
    )


if __name__ == "__main__":
    main()

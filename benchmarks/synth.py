"""Synthesis of the whole stack, with the bindings imported as they ask for and as we import them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile

PLAIN = "from cdktf_cdktf_provider_aws.kinesis_stream import KinesisStream"
OURS = (
    "from pathlib import Path\n"
    "from stack.config import StackConfig\n"
    "from stack.synth import synthesize\n"
    "import sys\n"
    "synthesize(StackConfig.for_target('local', 'bench'), Path(sys.argv[1]))"
)


def cpu_s(code: str) -> float:
    """CPU-seconds of Python, and the Node that it starts, with this code."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
        subprocess.run([sys.executable, "-c", code, folder], check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints a table."""
    cpu_s(OURS)
    ours, plain = cpu_s(OURS), cpu_s(PLAIN)
    print("| what | CPU-seconds | ratio |")
    print("|---|---|---|")
    print(f"| import one class of the bindings, as usual | {plain:.1f} | {plain / ours:.1f} |")
    print(f"| import and synthesize the whole stack, here | {ours:.1f} | 1 |")


if __name__ == "__main__":
    main()

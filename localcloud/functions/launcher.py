"""Starts a function's runtime in this process, bound to die with the process that started it.

Run as `python launcher.py HANDLER`, in the folder of the function's code.
"""

import contextlib
import ctypes
import os
import resource
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
MIB = 1024 * 1024
# The memory size itself is enforced by who watches; this holds what grows between two looks.
SLACK_MIB = 1024


def main() -> None:
    """Ties this process to its parent's life, limits it, then becomes the runtime."""
    parent = int(os.environ.pop("FLEETCAST_PARENT"))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Orphans of the function stay below it, where they can be found.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        memory = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
        _limit(resource.RLIMIT_DATA, (memory + SLACK_MIB) * MIB)
    if os.getppid() != parent:
        sys.exit("the local cloud is gone")
    _limit(resource.RLIMIT_CORE, 0)
    # The function imports from its own folder, not from the folder of this file.
    sys.path[0] = str(Path.cwd())
    sys.argv = ["awslambdaric", sys.argv[1]]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


def _limit(what: int, value: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    main()

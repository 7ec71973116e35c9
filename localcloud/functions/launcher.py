"""Starts a function's runtime in this process, bound to die with the process that started it.

Run as `python launcher.py HANDLER`, in the folder of the function's code.
"""

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent's life, then becomes the runtime."""
    parent = int(os.environ.pop("FLEETCAST_PARENT"))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the local cloud is gone")
    # The function imports from its own folder, not from the folder of this file.
    sys.path[0] = str(Path.cwd())
    sys.argv = ["awslambdaric", sys.argv[1]]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

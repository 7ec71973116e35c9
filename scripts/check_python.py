"""Says in one line what is wrong with the Python that was found, before anything is installed.

Runs under any Python 3, however old, so it uses nothing newer than that.
"""

import sys

OLDEST, NEWEST = (3, 11), (3, 13)

if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "Python 3.11, 3.12 or 3.13 is needed, but {} is {}.{}: "
        "run make with PYTHON=/path/to/python3.12".format(sys.executable, *sys.version_info[:2])
    )
try:
    import ensurepip  # noqa: F401 - absent on Debian until python3-venv is installed
except ImportError:
    sys.exit("this Python cannot create virtual environments: install Debian's python3-venv")

"""Locust patches the process that imports it; this one is not to be patched."""

import os

VARIABLE = "LOCUST_SKIP_MONKEY_PATCH"

os.environ[VARIABLE] = "1"
import locust  # noqa: E402, F401

del os.environ[VARIABLE]

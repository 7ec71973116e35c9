"""The errors a caller can act on. Each is one line to a person and one exit code to a machine."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What every fleetcast command exits with."""

    OK = 0
    VERDICT_FAIL = 1
    USAGE = 2
    TARGET = 3


class FleetcastError(Exception):
    """Base of all errors that fleetcast raises on purpose.

    Args:
        message: One line that says what is wrong, where, and what to do.
    """

    exit_code = ExitCode.TARGET


class UsageError(FleetcastError):
    """The command, the scenario or the configuration cannot be used as given."""

    exit_code = ExitCode.USAGE


class TargetError(FleetcastError):
    """The target (AWS or the local cloud) or the infrastructure on it failed."""

    exit_code = ExitCode.TARGET

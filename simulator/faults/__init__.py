"""Faults with ground truth: what goes wrong, where, when, and what must come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from fleetcast.errors import UsageError
from simulator.faults.base import REASONS, Fault, pick_devices, pick_readings
from simulator.faults.clock import ClockFault, ClockSkew, Late
from simulator.faults.payload import (
    CORRUPTIONS,
    Corrupt,
    ForgedSignature,
    Oversize,
    PayloadFault,
    UnknownDevice,
    WrongType,
)
from simulator.faults.sending import (
    Burst,
    Dropout,
    Duplicate,
    HotKey,
    OutOfOrder,
    Reboot,
    ReconnectStorm,
    Silence,
)
from simulator.faults.values import (
    BatteryLow,
    Drift,
    NoiseFault,
    Overheat,
    SpikeFault,
    Stuck,
    ValueFault,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

AnyFault = Annotated[
    Overheat
    | Drift
    | Stuck
    | SpikeFault
    | NoiseFault
    | BatteryLow
    | Dropout
    | Silence
    | Reboot
    | Duplicate
    | OutOfOrder
    | Burst
    | ReconnectStorm
    | HotKey
    | Late
    | ClockSkew
    | Corrupt
    | WrongType
    | Oversize
    | ForgedSignature
    | UnknownDevice,
    Field(discriminator="kind"),
]


def refuse_transport(faults: Sequence[Fault], transport: str) -> None:
    """Refuses faults that a transport cannot express.

    Raises:
        UsageError: there is one.
    """
    if transport != "mqtt":
        return
    for fault in faults:
        if isinstance(fault, HotKey):
            raise UsageError(
                f"fault {fault.name}: over mqtt, the topic rule chooses partition keys, not the "
                "device: use --transport kinesis"
            )


__all__ = [
    "CORRUPTIONS", "REASONS", "AnyFault", "ClockFault", "Corrupt", "Fault", "Overheat",
    "PayloadFault", "Reboot", "ValueFault", "pick_devices", "pick_readings",
    "refuse_transport",
]  # fmt: skip

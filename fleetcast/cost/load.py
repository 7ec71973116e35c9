"""What a scenario puts on the stack: how many readings, how large on each of their ways.

Sizes are not guessed: a sample of the scenario's own readings is generated, encoded and packed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.scenario import RunInfo
from stack.processor.metrics import Metrics

if TYPE_CHECKING:
    from simulator.scenario import Scenario

SAMPLE = 1000
KIB = 1024
# Firehose counts each record in steps of 5 KB, Kinesis in steps of 25 KB.
FIREHOSE_STEP, KINESIS_STEP = 5 * KIB, 25 * KIB
# IoT Core meters payload and topic in steps of 5 KB; a topic has not much more than this.
MESSAGE_STEP, TOPIC_BYTES = 5 * KIB, 64
_TIME_BYTES = _NUMBER_BYTES = 8
# What the processor writes beside the signals.
_OWN_MEASURES = ("seq", "arrived_ms", "processed_ms")


@dataclass(frozen=True, slots=True)
class Load:
    """Readings and their sizes, in bytes each unless it says otherwise.

    Attributes:
        readings: All of the run.
        refused: Those that are broken on purpose.
        duration_s: Of the run.
        payload: Of the JSON that is sent.
        kinesis_units: Payload units of 25 KB.
        firehose: As Firehose counts it, in steps of 5 KB.
        archived: Compressed, with its delimiter.
        stored: As Timestream stores it.
        logged: Of the metrics that the processor logs.
        messages: As IoT Core counts it, in messages of 5 KB.
        devices: How many send them.
    """

    readings: int
    refused: int
    duration_s: float
    payload: float
    kinesis_units: float
    firehose: float
    archived: float
    stored: float
    logged: float
    messages: float = 1.0
    devices: int = 1

    @property
    def rate_per_s(self) -> float:
        """Mean rate."""
        return self.readings / self.duration_s


def load_of(scenario: Scenario) -> Load:
    """The load of a scenario, sizes from a sample of its readings."""
    profile, fleet_spec = scenario.profile, scenario.fleet
    run = RunInfo("r-20260101-000000-cost", 0, "aws", "cost", "kinesis", (0, fleet_spec.devices))
    fleet = Fleet(scenario, run)
    encoder = Encoder(fleet, b"0" * 48)
    payloads: list[bytes] = []
    stored = 0.0
    for block in fleet.blocks(last=min(SAMPLE, fleet.total)):
        payloads += encoder.encode(block)
        for device, kind in zip(
            block.device_index.tolist(), block.class_index.tolist(), strict=True
        ):
            dimensions = {
                "device": fleet.device_ids[device],
                "class": fleet.class_name(device),
                "site": fleet.site_name(device),
                "run": run.id,
            }
            stored += _stored(dimensions, [*fleet_spec.classes[kind].signals, *_OWN_MEASURES])
    count = len(payloads)
    # Which readings are refused is part of their truth; to know it they are generated.
    refused = 0
    if scenario.faults:
        refused = sum(
            int((block.refusal > 0).sum())
            for block in Fleet(scenario, run).blocks()
            if block.refusal is not None
        )
    return Load(
        readings=profile.total,
        refused=refused,
        duration_s=profile.duration_s,
        payload=sum(map(len, payloads)) / count,
        kinesis_units=sum(math.ceil(len(p) / KINESIS_STEP) for p in payloads) / count,
        firehose=sum(math.ceil(len(p) / FIREHOSE_STEP) for p in payloads) * FIREHOSE_STEP / count,
        archived=len(gzip.compress(b"\n".join(payloads) + b"\n")) / count,
        stored=stored / count,
        logged=_logged(),
        messages=sum(math.ceil((len(p) + TOPIC_BYTES) / MESSAGE_STEP) for p in payloads) / count,
        devices=fleet_spec.devices,
    )


def _stored(dimensions: dict[str, str], measures: list[str]) -> int:
    """Bytes of a multi-measure record, as Timestream's metering page counts them."""
    named = sum(len(name.encode()) + len(value.encode()) for name, value in dimensions.items())
    return _TIME_BYTES + named + sum(len(name.encode()) + _NUMBER_BYTES for name in measures)


def _logged() -> float:
    """Bytes of metrics per reading, of a batch of the sample's size."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        counts = dict.fromkeys(("ReadingsReceived", "ReadingsWritten", "ReadingsRefused",
                                "TimestreamRejected", "CriticalReadings"), SAMPLE)  # fmt: skip
        Metrics("Fleetcast", "cost").publish(counts, "EndToEndLatency", [1000] * SAMPLE, 10**12)
    return len(out.getvalue()) / SAMPLE

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from simulator.batch import ROW, Batch
from simulator.columns import of_bytes, of_texts
from simulator.scenario import RunInfo, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"a key that only tests know"
START_MS = 1_700_000_000_000
GOOD = """\
name: tested
description: One that can be used.
seed: 7
fleet:
  devices: 500
  sites: 2
  classes:
    - name: cold-chain
      share: 0.6
      signals:
        temperature: {model: normal, mean: 4, sigma: 1}
        battery: {model: battery, life: 10h}
    - name: meter
      share: 0.4
      signals:
        power: {model: sine, mean: 300, amplitude: 200, period: 60s}
rate:
  - {shape: ramp, start: 0/s, end: 200/s, duration: 5s}
  - shape: constant
    rate: 200/s
    duration: 15s
faults:
  - {name: hot, kind: overheat, signal: temperature, offset: 80, share: 0.02, start: 4s, duration: 8s}
  - name: broken
    kind: corrupt
    share: 0.1
    duration: 2s
expect:
  lost: 0
  alarms:
    - {name: critical-readings, fires_within: 45s}
"""
TWO_CLASSES = [
    {
        "name": "cold-chain",
        "share": 0.6,
        "signals": {
            "temperature": {
                "model": "ornstein_uhlenbeck",
                "mean": 4.0,
                "reversion": 0.1,
                "sigma": 0.3,
                "spread": 0.5,
            },
            "humidity": {"model": "uniform", "low": 40, "high": 60, "decimals": 1},
        },
    },
    {
        "name": "vehicle",
        "share": 0.4,
        "signals": {
            "speed": {"model": "random_walk", "start": 50, "step": 3, "min": 0, "max": 130},
            "power": {
                "model": "sine",
                "mean": 300,
                "amplitude": 200,
                "period": "60s",
                "sigma": 5,
            },
        },
    },
]


@pytest.fixture(scope="session")
def key() -> bytes:
    return KEY


@pytest.fixture(scope="session")
def good_text() -> str:
    return GOOD


@pytest.fixture(scope="session")
def scenario_of() -> Callable[..., Scenario]:
    def make(
        *,
        devices: int = 50,
        classes: list[dict[str, Any]] | None = None,
        rate: list[dict[str, Any]] | None = None,
        faults: list[dict[str, Any]] | None = None,
        seed: int = 7,
        **more: Any,
    ) -> Scenario:
        return Scenario.model_validate(
            {
                "name": "tested",
                "seed": seed,
                "fleet": {"devices": devices, "sites": 3, "classes": classes or TWO_CLASSES},
                "rate": rate or [{"shape": "constant", "rate": "100/s", "duration": "5s"}],
                "faults": faults or [],
                **more,
            }
        )

    return make


@pytest.fixture(scope="session")
def run_of() -> Callable[..., RunInfo]:
    def make(
        scenario: Scenario,
        part: tuple[int, int] | None = None,
        *,
        start_ms: int = START_MS,
        run_id: str = "run-1",
    ) -> RunInfo:
        part = part or (0, scenario.fleet.devices)
        return RunInfo(run_id, start_ms, "local", "test", "kinesis", part)

    return make


@pytest.fixture(scope="session")
def readings_of() -> Callable[..., Batch]:
    """Readings of a device each, due now."""

    def make(
        payloads: list[bytes], keys: list[str] | None = None, *, first: int = 0, **rows: Any
    ) -> Batch:
        made = np.zeros(len(payloads), dtype=ROW)
        made["k"] = made["device"] = np.arange(first, first + len(payloads))
        made["scheduled_ns"] = made["due_ns"] = time.time_ns()
        made["sends"] = 1
        for name, value in rows.items():
            made[name] = value
        keys = keys or [f"dev-{k:06d}" for k in made["k"].tolist()]
        largest = max(len(p) + 4 * len(k) for p, k in zip(payloads, keys, strict=True))
        return Batch(made, of_bytes(payloads), of_texts(keys), largest)

    return make


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    async def wait(check: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        give_up_s = time.monotonic() + timeout_s
        while not (found := check()):
            if time.monotonic() > give_up_s:
                raise AssertionError("the condition did not come true")
            await asyncio.sleep(0.01)
        return found

    return wait

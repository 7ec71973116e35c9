"""What a reading costs to generate, by signal model and rate shape; and a fleet of a million devices."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from simulator.fleet import Fleet
from simulator.scenario import RunInfo, Scenario

DEVICES = 20_000
READINGS = 400_000
MILLION = "million"
OTHER = {"source": {"model": "normal", "mean": 4, "sigma": 1}}
MODELS: dict[str, dict[str, Any]] = {
    "constant": {"model": "constant", "value": 230, "spread": 3},
    "uniform": {"model": "uniform", "low": 40, "high": 60},
    "normal": {"model": "normal", "mean": 4, "sigma": 1},
    "normal, mean drawn per device": {
        "model": "normal", "mean": {"normal": {"mean": 4, "sd": 1}}, "sigma": 1,
    },
    "sine with noise": {"model": "sine", "mean": 300, "amplitude": 200, "period": 60, "sigma": 5},
    "diurnal": {"model": "diurnal", "low": 1, "high": 9},
    "ornstein_uhlenbeck": {
        "model": "ornstein_uhlenbeck", "mean": 4, "reversion": 0.1, "sigma": 0.3,
    },
    "random_walk": {"model": "random_walk", "start": 50, "step": 3, "min": 0, "max": 130},
    "markov, 2 states": {
        "model": "markov",
        "states": {
            "a": {"value": 0, "stay": 20, "next": {"b": 1}},
            "b": {"value": 1, "stay": 20, "next": {"a": 1}},
        },
    },
    "counter": {"model": "counter", "rate": 2, "jitter": 0.1},
    "battery": {"model": "battery", "life": "10h"},
    "correlated, with its other": {
        "model": "correlated", "signal": "source", "correlation": 0.5, "mean": 1, "sigma": 1,
    },
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "constant": {"shape": "constant", "rate": 200_000, "duration": 2},
    "ramp": {"shape": "ramp", "start": 0, "end": 400_000, "duration": 2},
    "sine": {"shape": "sine", "mean": 200_000, "amplitude": 150_000, "period": 1, "duration": 2},
    "poisson": {"shape": "poisson", "rate": 200_000, "duration": 2},
}
FAULTS = [
    {"name": "a", "kind": "overheat", "signal": "s", "offset": 80, "share": 0.05, "duration": 2},
    {"name": "b", "kind": "duplicate", "share": 0.05, "duration": 2},
    {"name": "c", "kind": "out_of_order", "by": 1, "share": 0.05, "duration": 2},
    {"name": "d", "kind": "corrupt", "share": 0.01, "duration": 2},
    {"name": "e", "kind": "late", "by": "5m", "share": 0.05, "duration": 2},
]


def main() -> None:
    """Prints tables; the million is measured in a process of its own."""
    if sys.argv[1:] == [MILLION]:
        _million()
        return
    print("One signal, 20,000 devices, blocks of 8192 (and of 256); timestamps included.\n")
    print("| model | readings per CPU-second | in small blocks |")
    print("|---|---|---|")
    for name, model in MODELS.items():
        scenario = _scenario(model)
        print(f"| {name} | {_speed(scenario, 8192):,.0f} | {_speed(scenario, 256):,.0f} |")
    print("\n| rate shape, with a constant signal | readings per CPU-second |")
    print("|---|---|")
    for name, shape in SHAPES.items():
        speed = _speed(_scenario(MODELS["constant"], shape), 8192)
        print(f"| {name} | {speed:,.0f} |")
    faulty = _speed(_scenario(MODELS["normal"], faults=FAULTS), 8192)
    print(f"| constant, normal signal, five faults | {faulty:,.0f} |\n")
    done = subprocess.run(
        [sys.executable, "-P", __file__, MILLION], capture_output=True, text=True, check=True
    )
    print(done.stdout.strip())


def _scenario(
    model: dict[str, Any], shape: dict[str, Any] | None = None, *, faults: Any = (), **fleet: Any
) -> Scenario:
    signals = {**(OTHER if model.get("signal") == "source" else {}), "s": model}
    return Scenario.model_validate(
        {
            "name": "generate",
            "fleet": {
                "devices": DEVICES,
                "classes": [{"name": "c", "share": 1, "signals": signals}],
                **fleet,
            },
            "rate": [shape or SHAPES["constant"]],
            "faults": list(faults),
        }
    )


def _run(scenario: Scenario) -> RunInfo:
    return RunInfo("bench", 1_700_000_000_000, "local", "b", "null", (0, scenario.fleet.devices))


def _speed(scenario: Scenario, size: int) -> float:
    fleet = Fleet(scenario, _run(scenario))
    began = time.process_time()
    readings = sum(len(block) for block in fleet.blocks(size=size))
    return readings / (time.process_time() - began)


def _million() -> None:
    """A fleet of a million devices: until its first block, and 5 s at 50,000 a second."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, began_cpu = time.perf_counter(), time.process_time()
    scenario = _scenario(
        MODELS["ornstein_uhlenbeck"],
        {"shape": "constant", "rate": 50_000, "duration": 5},
        faults=[{"name": "hot", "kind": "overheat", "signal": "s", "offset": 9, "share": 0.01,
                 "duration": 5}],
        devices=1_000_000,
        sites=1000,
    )  # fmt: skip
    fleet = Fleet(scenario, _run(scenario))
    blocks = fleet.blocks()
    first = next(blocks)
    ready_s, ready_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    began_cpu = time.process_time()
    readings = sum(len(block) for block in blocks)
    speed = readings / (time.process_time() - began_cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not np.isfinite(first.values["s"]).all():
        raise SystemExit("the first block has no values")
    print("| 1,000,000 devices, one stateful signal, one fault | |")
    print("|---|---|")
    print(f"| ready, first block made | {ready_s:.2f} s ({ready_cpu_s:.2f} CPU-seconds) |")
    print(f"| readings per CPU-second after that | {speed:,.0f} |")
    print(f"| memory, of which before the fleet | {peak / 1024:,.0f} MB, {base / 1024:,.0f} MB |")


if __name__ == "__main__":
    main()

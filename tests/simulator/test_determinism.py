"""The same seed and scenario give the same readings, bit for bit, for ever."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fleetcast import scenarios
from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.scenario import RunInfo, load

# What is generated today: a run is only verified if its readings are told again as they were.
SMOKE = "311eb2a15e3aad8c9ec4a1a7ece30935"
SCRIPT = """
from tests_digest import digest
print(digest(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def digest(name: str, size: int, parts: int) -> str:
    """A hash of all payloads of a scenario, generated in blocks of a size by so many workers."""
    scenario = load(scenarios.find(name))
    payloads: dict[int, bytes] = {}
    devices = scenario.fleet.devices
    for part in range(parts):
        mine = (devices * part // parts, devices * (part + 1) // parts)
        run = RunInfo("run-1", 1_700_000_000_000, "local", "test", "kinesis", mine)
        fleet = Fleet(scenario, run)
        encoder = Encoder(fleet, b"key")
        for block in fleet.blocks(size=size):
            payloads.update(zip(block.k.tolist(), encoder.encode(block), strict=True))
    whole = hashlib.blake2b(digest_size=16)
    for k in sorted(payloads):
        whole.update(payloads[k] + b"\n")
    return whole.hexdigest()


def test_the_readings_of_a_ready_scenario_never_change():
    assert digest("smoke", 8192, 1) == SMOKE


@pytest.mark.parametrize("name", ["fault-parade", "vehicle-fleet", "factory-vibration"])
def test_blocks_workers_and_processes_make_no_difference(name, tmp_path):
    whole = digest(name, 8192, 1)
    assert digest(name, 193, 3) == whole
    (tmp_path / "tests_digest.py").write_bytes(Path(__file__).read_bytes())
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\n{SCRIPT}"]
    done = subprocess.run([*command, name, "1000", "2"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == whole

"""The local cloud is killed in the middle of a run, starts again, and the verdict holds."""

import json
import os
import signal
import subprocess
import sys

from fleetcast import cloudctl

SCENARIO = """
name: restart
seed: 11
fleet:
  devices: 40
  classes:
    - name: probe
      share: 1
      signals:
        temperature: {model: normal, mean: 4, sigma: 1, unit: C}
rate:
  - {shape: constant, rate: 60/s, duration: 12s}
# While the cloud is away for long, a reading uses up its attempts: it was not acknowledged.
expect: {lost: 0, duplicated: 720, failed: 720, rate_error_pct: null, landing_latency_p99: null}
"""


def acknowledged(line: str) -> int:
    """What a line of progress tells; 0 where it is none."""
    told = json.loads(line) if line.startswith("{") else {}
    return int(told.get("acked", 0))


def test_nothing_acknowledged_is_lost_when_the_cloud_is_killed(fleetcast, place, tmp_path):
    (tmp_path / "restart.yaml").write_text(SCENARIO)
    data = tmp_path / "data"
    started = fleetcast("cloud", "start", "--data", str(data))
    assert started.returncode == 0, started.stderr
    deployed = fleetcast("deploy", "--env", "restart", "--set", "shards=2")
    assert deployed.returncode == 0, deployed.stderr
    simulating = subprocess.Popen(
        [
            *(sys.executable, "-m", "fleetcast", "simulate", str(tmp_path / "restart.yaml")),
            *("--env", "restart", "--run-id", "r-restart", "--json"),
        ],
        env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    port = int(place["FLEETCAST_PORT"])
    for kill in range(2):
        # Each line is progress, twice a second.
        while acknowledged(line := simulating.stderr.readline()) < 150 * (kill + 1):
            assert simulating.poll() is None, line
        os.kill(cloudctl.status(port)["pid"], signal.SIGKILL)
        again = fleetcast("cloud", "start", "--data", str(data))
        assert again.returncode == 0, again.stderr
    output, errors = simulating.communicate(timeout=120)
    assert simulating.returncode == 0, errors + output
    done = fleetcast("verify", "r-restart", "--json")
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] == "pass", verdict
    assert verdict["acked"] >= 300
    assert verdict["landed"]["archive"]["unique"] >= verdict["acked"]

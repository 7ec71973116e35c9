from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from fleetcast import cloudctl
from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment with a stack `load` on a local cloud of its own."""
    folder = tmp_path_factory.mktemp("locust")
    port = cloudctl.free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder / "home"))
        patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
        patch.setenv("FLEETCAST_PORT", str(port))
        with cloudctl.running(port):
            subprocess.run(
                [sys.executable, "-m", "fleetcast", "deploy", "--env", "load"], check=True
            )
            yield dict(os.environ)


def locust(place: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary",
         "--spawn-rate", "100", "--fleet-env", "load", *arguments],
        env=place, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize("processes", ["1", "2"])
def test_users_send_the_whole_fleet_and_the_run_is_verified(
    place: dict[str, str], processes: str, tmp_path: Path
) -> None:
    name = f"on-{processes}"
    # Whether this machine keeps the rate while other tests run is not what is tested.
    scenario = tmp_path / "unhurried.yaml"
    smoke = (SCENARIOS / "smoke.yaml").read_text()
    scenario.write_text(smoke.replace("expect:\n", "expect:\n  rate_error_pct: null\n"))
    more = [] if processes == "1" else ["--processes", processes]
    done = locust(
        place, "--users", "4", "--scenario", str(scenario), "--fleet-rate", "300/s",
        "--fleet-duration", "8s", "--fleet-run-id", name, *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(place["FLEETCAST_RUNS"]) / name
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "pass"
    assert verdict["sent"] == verdict["acked"] == 2400
    assert verdict["landed"]["timeseries"]["unique"] == 2400
    assert verdict["landed"]["archive"]["unique"] == 2400
    assert len(list((folder / "ledger").glob("released-*.jsonl"))) == 4
    assert ledger.read(folder).column("k").to_pylist() == list(range(2400))
    statistics = next(line for line in done.stderr.splitlines() + done.stdout.splitlines()
                      if line.split()[:2] == ["Fleet", "reading"])  # fmt: skip
    assert "0(0.00%)" in statistics
    assert statistics.split()[2] == "2400"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--scenario", "nope"], "fleetcast: no scenario 'nope'"),
        (["--users", "101"], "fleetcast: --users 101 is more than the 100 devices: use fewer"),
        (["--users", "3", "--processes", "2"], "--users 3 on 2 workers: make it a multiple of 2"),
        (["--fleet-env", "none"], "fleetcast: no stack 'none' on target local"),
        (["--fleet-rate", "x"], "fleetcast: scenario smoke with these options: 'x' is not a rate"),
        (["--fleet-transport", "file"], "fleetcast: transport file is written by one process"),
        (["--max-p99", "-1"], "fleetcast: --max-p99 -1.0: give a number that is not negative"),
    ],
)
def test_wrong_options_end_the_test_with_one_line(
    place: dict[str, str], arguments: list[str], text: str
) -> None:
    done = locust(place, *arguments)
    assert done.returncode == 2
    assert text in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_thresholds_decide_the_exit_code_and_are_in_the_reports(
    place: dict[str, str], tmp_path: Path
) -> None:
    done = locust(
        place, "--users", "2", "--scenario", "smoke", "--fleet-transport", "null",
        "--fleet-rate", "400/s", "--fleet-duration", "2s", "--max-p99", "0", "--max-fail-ratio", "0",
        "--junit", str(tmp_path / "junit.xml"), "--html", str(tmp_path / "report.html"),
        "--csv", str(tmp_path / "load"),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "fleetcast: p99 until acknowledged, ms: " in done.stderr
    suite = ET.fromstring((tmp_path / "junit.xml").read_text())  # noqa: S314 - our own
    cases = {case.get("name"): case.find("failure") is None for case in suite}
    assert cases == {
        "schedule driven to its end": True,
        "fail ratio": True,
        "p99 until acknowledged, ms": False,
    }
    assert suite.get("failures") == "1"
    rows = list(csv.DictReader((tmp_path / "load_stats.csv").open()))
    assert [row["Request Count"] for row in rows if row["Name"] == "reading"] == ["800"]
    assert "reading" in (tmp_path / "report.html").read_text()


def test_a_region_without_the_stack_is_told(place: dict[str, str]) -> None:
    done = locust(place, "--users", "1", "--scenario", "smoke", "--fleet-region", "eu-west-1")
    assert done.returncode == 3
    assert "cannot read the signing key" in done.stderr
    assert "Traceback" not in done.stderr


OVER_MQTT = ["--transport", "mqtt", "--env", "load", "--workers", "2", "--devices", "20",
             "--rate", "100/s", "--duration", "4s", "--max-lost", "0", "--max-fail-ratio", "0"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "enrolled", "more"),
    [
        ("devices", ["--count", "20"], []),
        ("gateways", ["--gateways", "--count", "4"], ["--devices-per-connection", "5"]),
    ],
)
def test_two_workers_drive_enrolled_devices_over_mqtt_and_every_reading_lands(
    place: dict[str, str], tmp_path: Path, name: str, enrolled: list[str], more: list[str]
) -> None:
    scenario = tmp_path / "unhurried.yaml"
    smoke = (SCENARIOS / "smoke.yaml").read_text()
    scenario.write_text(smoke.replace("expect:\n", "expect:\n  rate_error_pct: null\n"))

    def fleetcast(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fleetcast", *arguments],
            env=place, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    without = fleetcast("load", str(scenario), *OVER_MQTT, *more)
    if name == "devices":
        assert without.returncode == 3, without.stderr
        assert "have no certificate" in without.stderr
    done = fleetcast("devices", "enrol", "--env", "load", *enrolled)
    assert done.returncode == 0, done.stderr
    done = fleetcast("load", str(scenario), *OVER_MQTT, *more, "--run-id", f"mqtt-{name}")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(place["FLEETCAST_RUNS"]) / f"mqtt-{name}"
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "pass"
    assert verdict["acked"] == 400
    for store in ("timeseries", "archive"):
        landed = verdict["landed"][store]
        assert (landed["unique"], landed["lost"], landed["duplicated"]) == (400, 0, 0)
    table = ledger.read(folder)
    assert table.column("k").to_pylist() == list(range(400))
    assert len(set(table.column("device").to_pylist())) == 20
    # Each worker has its half.
    assert len(list((folder / "ledger").glob("released-*.jsonl"))) == 2


class Cluster:
    """A master and workers as processes of their own, as on several machines."""

    def __init__(self, place: dict[str, str], *arguments: str, workers: int) -> None:
        self.port = cloudctl.free_port()
        self._place = place
        self.master = self._start(
            place, "--master", "--master-bind-port", str(self.port), "--headless",
            "--expect-workers", str(workers), "--only-summary", "--spawn-rate", "100",
            "--fleet-env", "load", *arguments,
        )  # fmt: skip
        self.workers: list[subprocess.Popen[str]] = []

    def _start(self, place: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments],
            env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def join(self, **environment: str) -> subprocess.Popen[str]:
        """A worker that joins."""
        worker = self._start(
            {**self._place, **environment}, "--worker", "--master-port", str(self.port)
        )
        self.workers.append(worker)
        return worker

    def end(self) -> tuple[int, str]:
        """The master's exit code and what it wrote."""
        output, errors = self.master.communicate(timeout=180)
        for worker in self.workers:
            # One that came when the master had gone gives up after a minute without it.
            worker.communicate(timeout=150)
        return self.master.returncode, output + errors


def wait_for(path: Path) -> None:
    """Waits until a file has something in it."""
    give_up_s = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 200):
        assert time.monotonic() < give_up_s, path
        time.sleep(0.05)


def test_a_worker_with_a_runs_folder_of_its_own_sends_its_ledger(
    place: dict[str, str], tmp_path: Path
) -> None:
    cluster = Cluster(
        place, "--users", "2", "--scenario", "smoke", "--fleet-rate", "300/s",
        "--fleet-duration", "5s", "--fleet-run-id", "apart", "--max-rate-error", "100", workers=2,
    )  # fmt: skip
    cluster.join()
    cluster.join(FLEETCAST_RUNS=str(tmp_path / "elsewhere"))
    code, output = cluster.end()
    assert code == 0, output
    folder = Path(place["FLEETCAST_RUNS"]) / "apart"
    table = ledger.read(folder)
    assert table.column("k").to_pylist() == list(range(1500))
    assert set(table.column("outcome").to_pylist()) == {"acked"}
    # Only one of the two wrote into the master's folder itself.
    assert len(list((tmp_path / "elsewhere" / "apart" / "ledger").glob("released-*.jsonl"))) == 1
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "pass"


def test_what_a_lost_worker_may_have_sent_is_unknown_and_not_lost(
    place: dict[str, str], tmp_path: Path
) -> None:
    cluster = Cluster(
        place, "--users", "2", "--scenario", "smoke", "--fleet-rate", "200/s",
        "--fleet-duration", "20s", "--fleet-run-id", "lost", workers=2,
    )  # fmt: skip
    doomed = cluster.join(FLEETCAST_RUNS=str(tmp_path / "elsewhere"))
    cluster.join()
    own = tmp_path / "elsewhere" / "lost" / "ledger"
    give_up_s = time.monotonic() + 60
    while not list(own.glob("released-*.jsonl")):
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    (journal,) = own.glob("released-*.jsonl")
    wait_for(journal)
    # With all it started, as when a machine is gone.
    os.killpg(doomed.pid, signal.SIGKILL)
    for child in senders_of(journal):
        os.kill(child, signal.SIGKILL)
    late = cluster.join()
    code, output = cluster.end()
    assert code == 3, output
    assert "is lost; what it may have sent is unknown" in output
    assert late.returncode is not None
    folder = Path(place["FLEETCAST_RUNS"]) / "lost"
    table = ledger.read(folder)
    outcomes = table.group_by("outcome").aggregate([("k", "count")]).to_pydict()
    told = dict(zip(outcomes["outcome"], outcomes["k_count"], strict=True))
    # The other one's, to the end.
    assert told["acked"] >= 2000, output
    assert told["unknown"] > 0
    verdict = json.loads((folder / "verdict.json").read_text())
    series = verdict["landed"]["timeseries"]
    assert (series["lost"], series["phantom"]) == (0, 0)


def senders_of(journal: Path) -> list[int]:
    """Processes that have a file open."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(one.readlink()) for one in (folder / "fd").iterdir()]
        except OSError:
            continue
        if str(journal) in links:
            found.append(int(folder.name))
    return found


def test_the_web_page_has_the_fleet(place: dict[str, str]) -> None:
    port = cloudctl.free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--users", "2", "--spawn-rate",
         "100", "--autostart", "--web-host", "127.0.0.1", "--web-port", str(port),
         "--scenario", "smoke", "--fleet-env", "load", "--fleet-rate", "100/s",
         "--fleet-duration", "8s", "--no-verify"],
        env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    rows: list[dict[str, object]] = []
    give_up_s = time.monotonic() + 60
    while not rows or not rows[0].get("landed"):
        assert time.monotonic() < give_up_s, rows
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests") as answer:
                stats = json.loads(answer.read()).get("extended_stats", [])
        except OSError:
            stats = []
        rows = stats[0]["data"] if stats else []
        time.sleep(0.1)
    assert [row["slice"] for row in rows] == ["all", "0-49", "50-99"]
    assert rows[0]["target"] == 100.0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        assert '"Fleet"' in answer.read().decode()
    state = ""
    while state != "stopped":
        assert time.monotonic() < give_up_s, rows
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests") as answer:
            page = json.loads(answer.read())
        rows, state = page["extended_stats"][0]["data"], page["state"]
        time.sleep(0.1)
    assert rows[0]["sent"] == 800
    # The page stays after the run, until Locust is ended.
    assert process.poll() is None
    process.terminate()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors

"""A run over MQTT, from enrolling devices to the verdict, by the command line alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from simulator import ledger

OPTIONS = ["--devices", "20", "--rate", "100/s", "--transport", "mqtt"]
STORM = """
name: storm
seed: 3
fleet:
  devices: 20
  classes:
    - {name: a, share: 1, signals: {temperature: {model: normal, mean: 4, sigma: 1}}}
rate: [{shape: constant, rate: 100/s, duration: 5s}]
faults:
  - {name: cut, kind: reconnect_storm, share: 0.5, start: 1s, duration: 1s, over: 200ms}
expect: {lost: 0, rate_error_pct: null}
"""


@pytest.fixture(scope="module")
def enrolled(fleetcast, deployed):
    done = fleetcast("devices", "enrol", "--count", "20")
    assert done.returncode == 0, done.stderr
    assert "enrolled 20, 0 were enrolled already" in done.stdout


@pytest.fixture(scope="module")
def unhurried(tmp_path_factory):
    """The scenario smoke, whether or not the machine keeps its rate while other tests run."""
    smoke = (Path(__file__).parents[2] / "scenarios" / "smoke.yaml").read_text()
    path = tmp_path_factory.mktemp("unhurried") / "smoke.yaml"
    path.write_text(smoke.replace("expect:\n", "expect:\n  rate_error_pct: null\n"))
    return str(path)


def files_of(place) -> list[Path]:
    return sorted(Path(place["FLEETCAST_HOME"]).glob("deployments/local-dev/devices/*"))


def test_devices_without_a_certificate_are_told_how_to_get_one(fleetcast, deployed):
    done = fleetcast("simulate", "smoke", *OPTIONS, "--duration", "1s")
    assert done.returncode == 2
    assert "20 devices of the run have no certificate, dev-000000 the first" in done.stderr
    assert "fleetcast devices enrol --target local --env dev --count 20" in done.stderr


def test_keys_are_for_their_owner_alone(place, enrolled):
    files = files_of(place)
    assert [file.name for file in files[:2]] == ["dev-000000.pem", "dev-000001.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


def test_an_enrolment_goes_on_where_it_was(fleetcast, place, enrolled):
    files_of(place)[3].unlink()
    done = fleetcast("devices", "enrol", "--count", "20")
    assert "enrolled 1, 19 were enrolled already" in done.stdout, done.stderr
    listed = json.loads(fleetcast("devices", "list", "--json").stdout)
    assert [one["status"] for one in listed] == ["ACTIVE"] * 20
    assert listed[7]["thing"] == "fleetcast-dev-000007-dev"


def test_a_run_over_mqtt_is_verified_like_any_other(fleetcast, place, enrolled, unhurried):
    done = fleetcast("simulate", unhurried, *OPTIONS, "--duration", "2s", "--run-id", "over-mqtt")
    assert done.returncode == 0, done.stderr
    rows = ledger.read(Path(place["FLEETCAST_RUNS"]) / "over-mqtt").to_pylist()
    assert len(rows) == 200
    assert {row["outcome"] for row in rows} == {"acked"}
    assert all(row["scheduled_ns"] <= row["sent_ns"] <= row["acked_ns"] for row in rows)
    verified = fleetcast("verify", "over-mqtt", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    landed = json.loads(verified.stdout)["landed"]
    assert landed["timeseries"]["unique"] == landed["archive"]["unique"] == 200
    assert landed["timeseries"]["lost"] == landed["archive"]["lost"] == 0


def test_a_reconnect_storm_loses_nothing(fleetcast, place, enrolled, tmp_path):
    (tmp_path / "storm.yaml").write_text(STORM)
    done = fleetcast("simulate", str(tmp_path / "storm.yaml"), "--transport", "mqtt",
                     "--run-id", "storm", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    # Ten connections were cut; each tells of it.
    assert summary["errors"] >= 10
    assert (summary["acked"], summary["failed"], summary["unknown"]) == (500, 0, 0)
    verified = fleetcast("verify", "storm", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_gateways_carry_devices_on_few_connections_and_workers_share_them(
    fleetcast, place, enrolled, unhurried
):
    done = fleetcast("devices", "enrol", "--gateways", "--count", "4")
    assert "enrolled 4" in done.stdout, done.stderr
    done = fleetcast("simulate", unhurried, *OPTIONS, "--duration", "2s", "--run-id", "gateways",
                     "--devices-per-connection", "5", "--workers", "2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = ledger.read(Path(place["FLEETCAST_RUNS"]) / "gateways").to_pylist()
    assert {row["outcome"] for row in rows} == {"acked"}
    assert len({row["device"] for row in rows}) == 20
    verified = fleetcast("verify", "gateways")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_device_whose_certificate_is_revoked_stops_a_run_before_it_begins(fleetcast, enrolled):
    assert "revoked 1" in fleetcast("devices", "revoke", "dev-000005").stdout
    listed = json.loads(fleetcast("devices", "list", "--json").stdout)
    assert [one["device"] for one in listed if one["status"] == "REVOKED"] == ["dev-000005"]
    done = fleetcast("simulate", "smoke", *OPTIONS, "--duration", "1s")
    assert done.returncode == 3
    assert "1 of 20 connections did not stand" in done.stderr
    assert "fleetcast devices list" in done.stderr
    # It is enrolled again like a device that never was.
    again = fleetcast("devices", "enrol", "--count", "20")
    assert "enrolled 1, 19 were enrolled already" in again.stdout


def test_devices_that_are_deleted_leave_nothing(fleetcast, place, enrolled):
    done = fleetcast("devices", "revoke", "--all", "--delete")
    assert done.returncode == 0, done.stderr
    assert "deleted 24" in done.stdout
    assert files_of(place) == []
    assert fleetcast("destroy").returncode == 0

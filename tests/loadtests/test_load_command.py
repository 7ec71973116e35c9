"""`fleetcast load`: Locust behind one command, and the search for what gives first."""

import json
import math
import os
import subprocess
import sys

import pytest

from fleetcast import cloudctl, load
from fleetcast.load import LoadRun, Trial, limit_of
from simulator.events import read_events
from simulator.scenario import load_run


@pytest.fixture
def place(tmp_path):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST")},
        "FLEETCAST_HOME": str(tmp_path / "home"),
        "FLEETCAST_RUNS": str(tmp_path / "runs"),
        "FLEETCAST_PORT": str(cloudctl.free_port()),
    }


def fleetcast(place, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "fleetcast", *arguments],
        env=place, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def test_two_workers_send_to_nowhere_what_one_would(place, tmp_path):
    done = fleetcast(
        place, "load", "smoke", "--transport", "null", "--workers", "2", "--rate", "500/s",
        "--duration", "2s", "--run-id", "two", "--junit", str(tmp_path / "j.xml"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = (tmp_path / "runs" / "two" / "events.jsonl").read_text().splitlines()
    ended = next(e for e in map(json.loads, events) if e["event"] == "run_ended")
    assert (ended["sent"], ended["acked"], ended["complete"]) == (1000, 1000, True)
    assert (tmp_path / "j.xml").exists()


def test_the_summary_as_json_is_all_of_standard_output_and_another_seed_another_fleet(
    place, tmp_path
):
    asked = ["load", "smoke", "--transport", "null", "--rate", "200/s", "--duration", "1s"]
    done = fleetcast(place, *asked, "--json", "--seed", "99", "--run-id", "told")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["run_id"], summary["sent"], summary["complete"]) == ("told", 200, True)
    progress = [line for line in done.stderr.splitlines() if line.startswith('{"event"')]
    assert json.loads(progress[-1])["acked"] == 200
    kept, _ = load_run(tmp_path / "runs" / "told")
    assert kept.seed == 99
    # What an earlier run of this name came to is not this one's.
    again = fleetcast(place, *asked, "--json", "--run-id", "told")
    assert (again.returncode, again.stdout) == (2, "")
    assert "run 'told' exists" in again.stderr


def test_two_load_runs_at_once_do_not_take_each_others_workers(place, tmp_path):
    def started(name):
        return subprocess.Popen(
            [sys.executable, "-m", "fleetcast", "load", "smoke", "--transport", "null",
             "--workers", "2", "--rate", "100/s", "--duration", "20s", "--run-id", name],
            env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    runs = {name: started(name) for name in ("one", "other")}
    for name, process in runs.items():
        output, errors = process.communicate(timeout=200)
        assert process.returncode == 0, output + errors
        events = read_events(tmp_path / "runs" / name)
        ended = next(event for event in events if event["event"] == "run_ended")
        assert (ended["sent"], ended["complete"]) == (2000, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nope"], "no scenario 'nope'"),
        (["smoke", "--env", "none"], "no stack 'none' on target local"),
        (["smoke", "--workers", "101", "--transport", "null"], "101: there are 100 devices"),
        (["smoke", "--devices", "0"], "fleet.devices"),
        (["smoke", "--transport", "pigeon"], "unknown transport 'pigeon'"),
        (
            ["smoke", "--transport", "null", "--ordering", "strict"],
            "strict is for transport kinesis",
        ),
        (["smoke", "--transport", "null", "--ordering", "any"], "unknown ordering 'any'"),
        (["smoke", "--stress", "--json"], "--json tells of one run"),
        (["smoke", "--stress", "--rate", "fast"], "'fast' is not a rate"),
    ],
)
def test_what_is_wrong_is_told_and_exits_with_2(place, arguments, text):
    done = fleetcast(place, "load", *arguments)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def searched(monkeypatch, most):
    """The lines of a search on a target that holds up to `most`/s."""
    tried = []

    def trial(asked, run_id, rate):
        del run_id
        tried.append((rate, asked.devices))
        return Trial(rate, ok=rate <= most, limit="the stream throttles" if rate > most else "")

    monkeypatch.setattr(load, "_tried", trial)
    return list(load.stress(LoadRun("smoke", transport="null", rate="100/s"))), tried


@pytest.mark.parametrize("most", [100, 130, 999, 64_000])
def test_the_search_closes_in_on_the_highest_rate_that_holds(monkeypatch, most):
    lines, tried = searched(monkeypatch, most)
    good = max(rate for rate, _ in tried if rate <= most)
    bad = min(rate for rate, _ in tried if rate > most)
    assert bad - good <= load.CLOSE * bad
    assert lines[-1] == f"holds up to {good:,.0f}/s; at {bad:,.0f}/s the stream throttles"
    # More devices, not faster ones.
    assert all(devices == max(100, math.ceil(rate)) for rate, devices in tried)


def test_a_search_ends_where_nothing_ever_gives(monkeypatch):
    lines, tried = searched(monkeypatch, float("inf"))
    assert len(tried) == load.MOST_TRIALS
    assert lines[-1].endswith("the highest that was tried")


FAILED = {"lost": "3 readings"}


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (
            {"throttled": 50, "sent": 1000, "shards": {"a": 0.5, "b": 0.5}},
            "the stream throttles 5.0% of what is sent to its 2 shards: lost does not hold",
        ),
        ({"errors": 1, "last_error": "no answer"}, "the stream refuses or does not answer"),
        ({"schedule_lag_ms": {"p99": 900.0}}, "the senders do not keep up"),
        ({"schedule_lag_ms": {"p99": 9.0}}, "what comes after the stream does not keep up"),
    ],
)
def test_the_limit_is_told_by_what_the_senders_saw(summary, text):
    assert text in limit_of(summary, FAILED)


def test_a_real_search_says_which_limit_was_hit(place):
    done = fleetcast(
        place, "load", "smoke", "--transport", "null", "--rate", "200/s", "--duration", "1s",
        "--max-p99", "0", "--stress",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "p99 until acknowledged, ms does not hold" in lines[0]
    assert lines[-1].startswith("holds at none of the rates that were tried; at 50/s")

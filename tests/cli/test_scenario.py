from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from fleetcast.cli import root

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """name: small
description: A few meters.
fleet:
  devices: 40
  classes:
    - name: meter
      share: 1
      signals:
        power: {model: sine, mean: 300, amplitude: 200, period: 10s, unit: W}
        charge: {model: battery, life: 1h, unit: "%"}
rate: [{shape: constant, rate: 40/s, duration: 20s}]
faults:
  - {name: hot, kind: overheat, signal: power, offset: 900, share: 0.2, start: 5s, duration: 5s}
  - {name: dark, kind: silence, share: 0.5, start: 12s, duration: 3s}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "small.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fleetcast", "scenario", *arguments])
        code = root._run()
        told = capsys.readouterr()
        return int(code), told.out, told.err

    return go


READY = {"smoke", "cold-chain", "factory-vibration", "vehicle-fleet", "smart-meters-midnight",
         "fault-parade", "soak"}  # fmt: skip


def test_the_ready_scenarios_are_listed(run):
    code, out, _ = run("list")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == READY
    told = json.loads(run("list", "--json")[1])
    assert {one["name"] for one in told} == READY
    smoke = next(one for one in told if one["name"] == "smoke")
    assert (smoke["devices"], smoke["peak_per_s"], smoke["readings"]) == (100, 200, 3000)


def test_what_is_expected_of_landing_and_of_the_order_is_told(run, tmp_path):
    asked = "expect: {archive_latency_p50: 40s, archive_latency_p99: 90s, out_of_order: 3}\n"
    (tmp_path / "asked.yaml").write_text(GOOD + asked)
    code, out, err = run("show", "asked.yaml")
    assert code == 0, err
    assert out.splitlines()[-3:] == [
        "  50 % archived within 40 s",
        "  99 % archived within 90 s",
        "  out of order in the stream 3 at most",
    ]


@pytest.mark.parametrize("name", sorted(READY))
def test_a_ready_scenario_is_valid_without_a_warning(run, name):
    code, out, err = run("validate", name)
    assert (code, err) == (0, "")
    assert out.endswith(f"{name}.yaml: can be used, 0 warnings\n")


def test_a_scenario_is_shown_with_what_comes_of_its_faults(run):
    code, out, _ = run("show", "small.yaml")
    assert code == 0
    for line in (
        "  40 devices at 1 sites, 800 readings in 20 s, at most 40/s",
        "class meter: 100 %",
        "  constant: duration 20s, rate 40/s",
        "  dark: silence: share 0.5, start 12s, duration 3s",
        "    a reading with it is never sent, and must be nowhere",
    ):
        assert line in out.splitlines()
    told = json.loads(run("show", "small.yaml", "--json")[1])
    assert told["fleet"]["classes"][0]["signals"]["power"]["unit"] == "W"


def test_late_readings_are_shown_with_what_comes_of_them(run):
    _, out, _ = run("show", "fault-parade")
    assert "    a reading with it lands with the timestamp that it has" in out
    assert (
        "    a reading with it is quarantined as timestream_rejected, and is in the archive" in out
    )


def test_all_errors_of_a_scenario_are_told(run, tmp_path):
    text = GOOD.replace("devices: 40", "devices: 0").replace("share: 0.2", "share: 2")
    (tmp_path / "bad.yaml").write_text(text)
    code, out, err = run("validate", "bad.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "fleetcast: bad.yaml:4: fleet.devices: Input should be greater than or equal to 1",
        "fleetcast: bad.yaml:13: faults.0.share: Input should be less than or equal to 1",
    ]
    code, out, _ = run("validate", "bad.yaml", "--json")
    told = json.loads(out)
    assert (code, told["ok"], len(told["errors"]), told["warnings"]) == (2, False, 2, [])


WARNED = {
    "a rate": (
        "rate: 40/s", "rate: 12000/s", [],
        [("rate: 12,000/s on 10 shards allows 10,000/s unaggregated: use 12 shards, aggregation, "
         "or a lower rate")],
    ),
    "a rate on one shard": (
        "rate: 40/s", "rate: 1500/s", ["--shards", "1"],
        [("rate: 1,500/s on 1 shards allows 1,000/s unaggregated: use 2 shards, aggregation, or a "
         "lower rate")],
    ),
    "copies": (
        "rate: 40/s", "rate: 9000/s", [],
        ["faults: dark makes 13,500/s of 9,000/s, and 10 shards allow 10,000/s unaggregated"],
    ),
    "a hot key": (
        "rate: 40/s", "rate: 9000/s", [],
        [("faults: dark sends up to 4,500/s to one shard, which takes 1,000/s: readings will be "
         "throttled and tried again")],
    ),
    "a storm": (
        "rate: 40/s", "rate: 9000/s", [],
        [("faults: dark releases up to 13,500 readings within 1 s, and 10 shards take 10,000 in a "
         "second")],
    ),
    "a herd": (
        "devices: 40", "devices: 12000\n  spread: herd", [],
        [("fleet.spread: a herd of 12,000 devices sends at once, and 10 shards take 10,000 in a "
         "second: it will take 1.2 s to land")],
    ),
    "values": (
        "period: 10s", "period: 10s", [],
        ["fleet: meter's walk came to "],
    ),
}  # fmt: skip
KINDS = {"copies": "duplicate", "a hot key": "hot_key", "a storm": "reconnect_storm"}


@pytest.mark.parametrize("case", sorted(WARNED))
def test_a_warning_has_the_arithmetic(run, tmp_path, case):
    old, new, options, expected = WARNED[case]
    text = GOOD.replace(old, new).replace("kind: silence", f"kind: {KINDS.get(case, 'silence')}")
    if case == "values":
        walk = "{model: ornstein_uhlenbeck, mean: 1, reversion: 1, sigma: 3, unit: '%'}"
        text = text.replace("      signals:\n", f"      signals:\n        walk: {walk}\n")
    (tmp_path / "loud.yaml").write_text(text)
    code, out, _ = run("validate", "loud.yaml", *options)
    assert code == 0
    found = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"warning: {start}")
    assert json.loads(run("validate", "loud.yaml", *options, "--json")[1])["warnings"] == [
        line.removeprefix("warning: ") for line in found
    ]


def test_a_preview_is_a_picture_that_loads_nothing(run, tmp_path):
    code, out, _ = run("preview", "small.yaml", "--out", "p.svg")
    assert (code, out) == (0, "p.svg\n")
    text = (tmp_path / "p.svg").read_text()
    picture = ET.fromstring(text)  # noqa: S314 - our own
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(picture.itertext())
    for word in ("small", "rate /s", "meter: power W", "meter: charge %", "hot (overheat)",
                 "dark (silence)", "800 readings in 20 s"):  # fmt: skip
        assert word in words
    paths = [e for e in picture.iter() if e.get("class") == "line"]
    assert len(paths) == 1 + 2 * 4
    # A silent device's line has a gap, which a path has by moving once more.
    assert any(path.get("d", "").count("M") == 2 for path in paths)
    assert sum(e.get("class") == "fault" for e in picture.iter()) >= 5
    assert "href" not in text
    assert text.count("http") == 1
    code, _, _ = run("preview", "small.yaml", "--out", "p.html", "--devices", "1")
    page = (tmp_path / "p.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page


def test_a_preview_in_the_terminal_shows_rate_faults_and_signals(run):
    code, out, _ = run("preview", "small.yaml", "--devices", "2")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "small: 800 readings in 20 s"
    assert sum("meter power" in line for line in lines) == 2
    hot = next(line for line in lines if line.startswith("hot"))
    assert hot.count("█") == pytest.approx(15, abs=1)
    assert any("to 1" in line and "W" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["preview", "small.yaml", "--out", "p.png"], "give a name that ends in .svg or .html"),
        (["preview", "small.yaml", "--out", "no/p.svg"], "cannot be written: No such file"),
        (["preview", "nowhere"], "no scenario 'nowhere'"),
        (["show"], "Missing argument 'scenario'"),
        (["validate", "small.yaml", "--shards", "0"], "--shards"),
    ],
)
def test_bad_usage_is_one_line(run, arguments, text):
    code, _, err = run(*arguments)
    assert code == 2
    assert text in err
    assert err.count("\n") == 1


def test_a_long_scenario_is_previewed_from_its_beginning(run, tmp_path):
    text = GOOD.replace("duration: 20s", "duration: 10d").replace("rate: 40/s", "rate: 400/s")
    (tmp_path / "long.yaml").write_text(text)
    code, _, _ = run("preview", "long.yaml", "--out", "p.svg", "--devices", "1")
    assert code == 0
    assert "345,600,000 readings" in (tmp_path / "p.svg").read_text()


def test_a_run_warns_before_it_sends(tmp_path, monkeypatch, capsys):
    (tmp_path / "loud.yaml").write_text(GOOD.replace("rate: 40/s", "rate: 12000/s"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path / "home"))
    for options, warned in (([], True), (["--aggregate"], False)):
        monkeypatch.setattr(sys, "argv", ["fleetcast", "simulate", "loud.yaml", *options])
        assert root._run() == 2
        told = capsys.readouterr().err
        assert (
            "warning: rate: 12,000/s on 10 shards allows 10,000/s unaggregated" in told
        ) == warned
        assert "no stack 'dev' on target local" in told

"""Two runs are compared: what got worse comes first, and the page opens in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from dashboards.report import write_comparison
from fleetcast.cli.root import app
from fleetcast.errors import UsageError
from fleetcast.verify.compare import Compared, Number, compare
from fleetcast.verify.verdict import AlarmOutcome, Check, Landed, NotChecked, Rate
from tests.report.shared import INFO, LAG, SCENARIO, drawn, opened, write_run

if TYPE_CHECKING:
    from pathlib import Path

HOLDS = Check("timeseries.lost", ok=True, detail="0 acknowledged readings are not there")
FAILS = Check("timeseries.lost", ok=False, detail="3 acknowledged readings are not there")
GOOD: dict[str, Any] = {
    "verdict": "pass",
    "landed": {"timeseries": Landed(unique=100), "archive": Landed(unique=100)},
    "checks": [HOLDS],
}
BAD: dict[str, Any] = {
    "verdict": "fail",
    "landed": {"timeseries": Landed(unique=97, lost=3), "archive": Landed(unique=100)},
    "checks": [FAILS],
}


def folder_of(tmp_path: Path, name: str, **more: Any) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return write_run(folder, info=replace(INFO, id=name), **more)


def compared(tmp_path: Path, name: str, **more: Any) -> Compared:
    return Compared.of_run(folder_of(tmp_path, name, **more))


def test_what_got_worse_comes_first_and_a_lost_reading_before_all_else(tmp_path: Path) -> None:
    first = compared(tmp_path, "a", **GOOD)
    second = compared(tmp_path, "b", slower_ms=400, rate=Rate(10.0, 9.0, -10.0, LAG), **BAD)
    found = compare(first, second)
    assert found.worse
    assert [(check.name, check.change) for check in found.checks] == [("timeseries.lost", "worse")]
    names = [(one.name, one.change) for one in found.differences]
    assert names[0] == ("timeseries lost", "worse")
    assert names[1] == ("rate error", "worse")
    assert ("sent to acknowledged, p99", "worse") in names
    assert ("timeseries landed", "other") in names
    assert not {name for name, _ in names} & set(found.same)
    assert found.differences[0].told == "timeseries lost: 0 -> 3"
    p99 = next(one for one in found.differences if one.name == "sent to acknowledged, p99")
    assert p99.told == "sent to acknowledged, p99: 7 ms -> 407 ms (+5,714 %)"
    back = compare(second, first)
    assert not back.worse
    assert back.differences[0].change == back.checks[0].change == "better"


def test_a_run_compared_with_itself_is_the_same(tmp_path: Path) -> None:
    one = compared(tmp_path, "a", **BAD)
    found = compare(one, one)
    assert (found.worse, found.checks, found.differences, found.scenario) == (False, [], [], [])
    assert "timeseries lost" in found.same
    assert found.lines()[-1] == "verdict     a fail, a fail: not worse"


def test_of_two_that_fail_the_second_is_worse_where_it_fails_what_the_first_held(
    tmp_path: Path,
) -> None:
    rate = Check("rate", ok=False, detail="slow")
    first = compared(tmp_path, "a", **GOOD | {"verdict": "fail", "checks": [HOLDS, rate]})
    second = compared(tmp_path, "b", **BAD | {"checks": [FAILS, replace(rate, ok=True)]})
    found = compare(first, second)
    assert found.worse
    assert [check.change for check in found.checks] == ["worse", "better"]
    same = compared(tmp_path, "c", **GOOD | {"verdict": "fail", "checks": [HOLDS, rate]})
    assert not compare(first, same).worse


def test_what_was_asked_of_one_run_alone_is_named_and_judges_nothing(tmp_path: Path) -> None:
    more = Check("alarm.critical-readings", ok=False, detail="never")
    first = compared(tmp_path, "a", **GOOD | {"verdict": "fail"})
    other = SCENARIO.with_overrides(seed=9)
    second = compared(tmp_path, "b", scenario=other, **BAD | {"checks": [HOLDS, more]})
    found = compare(first, second)
    assert not found.worse
    assert [(check.name, check.a, check.b) for check in found.checks] == [
        ("alarm.critical-readings", None, False)
    ]
    assert found.scenario == ["seed: 0 -> 9"]


def test_what_could_not_be_asked_of_one_run_is_named(tmp_path: Path) -> None:
    first = compared(tmp_path, "a", **GOOD)
    second = compared(tmp_path, "b", **GOOD, not_checked=[NotChecked("archive", "no bucket")])
    found = compare(first, second)
    assert not found.worse
    assert found.lines()[0] == (
        "other       check archive: could not be asked of the second run: no bucket"
    )


def test_an_alarm_that_is_slower_is_worse_and_one_that_did_not_fire_is_told(
    tmp_path: Path,
) -> None:
    def alarm(fired_s: float | None) -> list[AlarmOutcome]:
        return [AlarmOutcome("iterator-age", True, fired_s, None, True)]  # noqa: FBT003

    runs = [
        compared(tmp_path, name, **GOOD, alarms=alarm(fired_s))
        for name, fired_s in (("a", 2.0), ("b", 30.0), ("c", None))
    ]
    (slower,) = compare(runs[0], runs[1]).differences
    assert (slower.change, slower.told) == (
        "worse",
        "alarm iterator-age fired after: 2.00 s -> 30.00 s (+1,400 %)",
    )
    (silent,) = compare(runs[0], runs[2]).differences
    assert (silent.change, silent.b) == ("other", None)


@pytest.mark.parametrize(
    ("a", "b", "change"),
    [(100.0, 109.0, None), (100.0, 111.0, "worse"), (100.0, 80.0, "better"), (1.0, 5.0, None)],
)
def test_what_is_measured_must_differ_by_more_than_noise(
    a: float, b: float, change: str | None
) -> None:
    assert Number("x", a, b, "ms", less_is_better=True, noise=5.0).change == change
    assert Number("x", a, b, less_is_better=True).change in ("worse", "better")


def test_runs_of_before_there_were_landings_are_compared_as_far_as_they_go(
    tmp_path: Path,
) -> None:
    folders = [
        folder_of(tmp_path, name, **GOOD, latency_ms={}, order={}, slowest=[], clocks=[])
        for name in ("a", "b")
    ]
    for folder in folders:
        (folder / "landings.parquet").unlink()
    runs = [Compared.of_run(folder) for folder in folders]
    found = compare(*runs)
    assert "timestamp to row, p99" in found.same
    page = write_comparison(tmp_path / "page.html", found, runs, folders).read_text()
    assert '<div id="acked">' in page
    assert '<div id="landing">' not in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_both_runs_in_one_chart_in_light_and_dark(
    tmp_path: Path, scheme: str
) -> None:
    folders = [folder_of(tmp_path, "a", **GOOD), folder_of(tmp_path, "b", slower_ms=400, **BAD)]
    runs = [Compared.of_run(folder) for folder in folders]
    page = write_comparison(tmp_path / "page.html", compare(*runs), runs, folders)
    text = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert "://" not in text
    assert not re.search(r"(src|href)\s*=", text)
    dom, console = opened(page, scheme=scheme)
    assert console == []
    assert f'data-theme="{scheme}"' in dom
    for figure in ("landing", "acked", "archive"):
        assert drawn(dom, figure)
    for curve in ("A a, p50", "A a, p99", "B b, p50", "B b, p99"):
        assert dom.count(f'data-unformatted="{curve}"') == 3
    assert "timeseries lost: 0 -&gt; 3" in dom
    assert "<title>a and b: worse</title>" in dom


def invoked(*words: str) -> Any:
    return CliRunner().invoke(app, ["compare", *words])


def test_the_command_exits_one_where_the_second_run_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_RUNS", str(tmp_path))
    folder_of(tmp_path, "a", **GOOD)
    folder_of(tmp_path, "b", **BAD)
    html = tmp_path / "page.html"
    worse = invoked("a", "b", "--html", str(html))
    assert worse.exit_code == 1
    lines = worse.stdout.splitlines()
    assert lines[0].startswith("worse       check timeseries.lost: held, now fails: 3 ")
    assert lines[1] == "worse       timeseries lost: 0 -> 3"
    assert lines[-2:] == ["verdict     a pass, b fail: worse", f"page: {html}"]
    assert html.stat().st_size > 100_000
    better = invoked("b", "a", "--json")
    assert better.exit_code == 0
    told = json.loads(better.stdout)
    assert (told["a"], told["b"], told["worse"]) == ("b", "a", False)
    assert told["differences"][0]["name"] == "timeseries lost"


def test_a_run_that_cannot_be_compared_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_RUNS", str(tmp_path))
    folder = folder_of(tmp_path, "a", **GOOD)
    assert isinstance(invoked("a", "nobody").exception, UsageError)
    nowhere = invoked("a", "a", "--html", str(tmp_path / "no" / "page.html")).exception
    assert str(nowhere).endswith("page.html: No such file or directory")
    (folder / "landings.parquet").write_text("no parquet")
    broken = invoked("a", "a", "--html", str(tmp_path / "page.html")).exception
    assert "landings.parquet is not readable" in str(broken)
    (folder / "verdict.json").unlink()
    unverified = invoked("a", "a").exception
    assert str(unverified) == "run a has no verdict: run fleetcast verify a"

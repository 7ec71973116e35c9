"""docs/bring-your-own.md's pipeline, which is none of ours: driven, verified, and found out."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.session
import pytest
import yaml

from fleetcast.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-pipeline"
FILE, SCENARIO = str(EXAMPLE / "pipeline.yaml"), str(EXAMPLE / "scenario.yaml")


@pytest.fixture(scope="module")
def built(fleetcast: Callable[..., Any], place: dict[str, str]) -> None:
    """The example's pipeline on a local cloud."""
    assert fleetcast("cloud", "start").returncode == 0
    build(place, EXAMPLE / "writer.py")


def build(place: dict[str, str], writer: Path) -> None:
    aws = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{place['FLEETCAST_PORT']}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "WRITER": str(writer),
    }
    done = subprocess.run(
        [sys.executable, EXAMPLE / "build.py"],
        env={**os.environ, **aws}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@contextmanager
def client(place: dict[str, str], service: str) -> Iterator[Any]:
    target = Target.named("local", port=int(place["FLEETCAST_PORT"]))
    made = botocore.session.get_session().create_client(service, **target.client_kwargs())
    yield made
    made.close()


class Line(NamedTuple):
    key: str
    text: bytes


def archived(s3: Any, part: bytes) -> Line:
    """A line of the archive with a part in it, once one is there."""
    while True:
        for item in s3.list_objects_v2(Bucket="plant-raw").get("Contents", ()):
            body = s3.get_object(Bucket="plant-raw", Key=item["Key"])["Body"].read()
            for text in body.splitlines():
                if part in text:
                    return Line(item["Key"], text)


@pytest.mark.usefixtures("built")
def test_the_example_is_checked_driven_and_verified(
    fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    checked = fleetcast("pipeline", "check", FILE, "--scenario", SCENARIO)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "stream          ok         plant-ingest: ACTIVE, 2 shards" in checked.stdout
    assert "signing_secret  not named  readings are not signed" in checked.stdout
    assert "holds nothing yet" in checked.stdout

    done = fleetcast("simulate", SCENARIO, "--pipeline", FILE, "--run-id", "own")
    assert done.returncode == 0, done.stderr
    verified = fleetcast("verify", "own", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    verdict = json.loads(verified.stdout)
    assert verdict["environment"] == "plant"
    assert verdict["landed"]["timeseries"]["unique"] == 1000
    assert verdict["landed"]["archive"]["unique"] == 1000
    assert {alarm["name"]: alarm["ok"] for alarm in verdict["alarms"]} == {
        "critical-readings": True
    }
    assert [one["name"] for one in verdict["not_checked"]] == ["timeseries.content"]
    assert verdict["not_checked"][0]["why"] == "not mapped: class, site"
    page = Path(place["FLEETCAST_RUNS"]) / "own" / "report.html"
    assert "Not checked: timeseries.content." in page.read_text()

    again = fleetcast("pipeline", "check", FILE, "--json")
    points = {point["name"]: point for point in json.loads(again.stdout)}
    assert "7 columns are there" in points["timeseries"]["detail"]
    assert "lines that can be read" in points["archive"]["detail"]


@pytest.fixture
def calm(tmp_path: Path) -> str:
    """The example's scenario, short, and without its fault and alarm."""
    told = yaml.safe_load(Path(SCENARIO).read_text())
    told["rate"][0]["duration"] = "2s"
    del told["faults"], told["expect"]["alarms"]
    path = tmp_path / "calm.yaml"
    path.write_text(yaml.safe_dump(told))
    return str(path)


@pytest.mark.usefixtures("built")
def test_locust_drives_it_and_its_run_is_verified(
    fleetcast: Callable[..., Any], place: dict[str, str], calm: str
) -> None:
    done = fleetcast(
        "load", calm, "--pipeline", FILE, "--workers", "2", "--run-id", "load", "--max-lost", "0"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((Path(place["FLEETCAST_RUNS"]) / "load" / "verdict.json").read_text())
    assert verdict["landed"]["timeseries"]["unique"] == 200
    assert verdict["landed"]["archive"]["unique"] == 200
    refused = fleetcast("load", calm, "--pipeline", FILE, "--transport", "mqtt")
    assert refused.returncode == 2
    assert "a pipeline is driven through its stream" in refused.stderr


@pytest.mark.usefixtures("built")
def test_tests_of_other_repositories_drive_it(
    place: dict[str, str], calm: str, tmp_path: Path
) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["fleetcast.pytest_plugin"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_it.py").write_text(
        "async def test_it(fleet):\n"
        f"    run = await fleet.run({calm!r})\n"
        "    assert run.passed, run.why\n"
        "    assert run.verdict.landed['archive'].unique == 200\n"
    )
    port = place["FLEETCAST_PORT"]
    for words, said in (
        ((f"--fleet-pipeline={FILE}", "--fleet-port", port), "1 passed"),
        ((f"--fleet-pipeline={FILE}", "--fleet-env", "dev"), "give one of the two"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
            cwd=tmp_path, env={**place, "PYTHONPATH": str(EXAMPLE.parents[2])},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert said in done.stdout, done.stdout + done.stderr


# As the example's writer, but for three readings of one device.
FAULTY = """

def records(readings):
    written = []
    for reading in readings:
        made = record(reading)
        which = reading["n"] if reading["id"] == "dev-000007" else None
        if which == 4:
            continue
        if which == 5:
            made["MeasureValues"][1]["Value"] = "20.5"
        if which == 6:
            again = {"Name": "copy", "Value": "yes"}
            written.append({**made, "Dimensions": [*made["Dimensions"], again]})
        written.append(made)
    return written
"""


@pytest.mark.usefixtures("built")
def test_a_writer_that_loses_doubles_and_changes_is_found_out(
    fleetcast: Callable[..., Any], place: dict[str, str], tmp_path: Path
) -> None:
    code = (EXAMPLE / "writer.py").read_text() + FAULTY
    with client(place, "lambda") as functions:
        packed = runpy.run_path(str(EXAMPLE / "build.py"))["zipped"](code)
        functions.update_function_code(FunctionName="plant-writer", ZipFile=packed)
    impatient = tmp_path / "pipeline.yaml"
    text = Path(FILE).read_text()
    impatient.write_text(text.replace("lands_within: 120s", "lands_within: 45s"))
    done = fleetcast("simulate", SCENARIO, "--pipeline", str(impatient), "--run-id", "bad")
    assert done.returncode == 0, done.stderr
    # One line of the archive is there twice, and one that nobody sent.
    shape = {"trial": "bad", "at": "2026-01-01T00:00:00.000Z", "values": {"t": 1.0, "rh": 1.0}}
    strange = json.dumps({"id": "dev-000001", "n": 9999, **shape}).encode()
    with client(place, "s3") as s3:
        line = archived(s3, b'"trial":"bad"')
        s3.put_object(Bucket="plant-raw", Key=f"{line.key}-again", Body=line.text + b"\n" + strange)

    verified = fleetcast("verify", "bad", "--json", "--junit", str(tmp_path / "junit.xml"))
    assert verified.returncode == 1, verified.stdout + verified.stderr
    verdict = json.loads(verified.stdout)
    clean = {"lost": 0, "duplicated": 0, "phantom": 0, "corrupted": 0, "late": 0}
    found = verdict["landed"]
    planted = {"lost": 1, "duplicated": 1, "corrupted": 1}
    assert found["timeseries"] == {"unique": 999, **clean, **planted}
    assert found["archive"] == {"unique": 1000, **clean, "duplicated": 1, "phantom": 1}
    assert {check["name"] for check in verdict["checks"] if not check["ok"]} == {
        "timeseries.lost", "timeseries.duplicated", "timeseries.corrupted",
        "archive.duplicated", "archive.phantom",
    }  # fmt: skip
    lines = (Path(place["FLEETCAST_RUNS"]) / "bad" / "exceptions.jsonl").read_text().splitlines()
    told = {
        (one["store"], one["kind"], one["device"], one["seq"]) for one in map(json.loads, lines)
    }
    assert told >= {
        ("timeseries", "lost", "dev-000007", 4), ("timeseries", "corrupted", "dev-000007", 5),
        ("timeseries", "duplicated", "dev-000007", 6),
    }  # fmt: skip
    assert 'skipped="1"' in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "dev"), "--pipeline and --env do not go together: give one of the two"),
        (("--region", "eu-west-1"), "--pipeline and --region do not go together"),
        (("--transport", "null"), "and not by transport null: leave out --transport"),
    ],
)
def test_options_that_do_not_go_with_a_pipeline_are_refused(
    fleetcast: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    done = fleetcast("simulate", SCENARIO, "--pipeline", FILE, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("built")
def test_a_run_is_verified_by_another_file_for_its_own_pipeline_alone(
    fleetcast: Callable[..., Any], tmp_path: Path
) -> None:
    run = ("--run-id", "again", "--duration", "1s")
    done = fleetcast("simulate", SCENARIO, "--pipeline", FILE, *run)
    assert done.returncode == 0, done.stderr
    text = Path(FILE).read_text()
    other = tmp_path / "pipeline.yaml"
    for changed, said in (
        (text.replace("plant-ingest", "other"), "was driven at stream_name plant-ingest, and "),
        (text.replace("rh: ", "hum: "), "payload: is not the one that run again was driven with"),
    ):
        other.write_text(changed)
        refused = fleetcast("verify", "again", "--pipeline", str(other))
        assert refused.returncode == 2
        assert said in refused.stderr
    quarantine = text[text.index("quarantine:") : text.index("alarms:")]
    without = text[: text.index("archive:")] + quarantine
    other.write_text(without)
    verified = fleetcast("verify", "again", "--pipeline", str(other), "--json")
    verdict = json.loads(verified.stdout)
    assert list(verdict["landed"]) == ["timeseries"]
    assert {one["name"] for one in verdict["not_checked"]} >= {"archive", "alarms"}
    # The file is kept: the report, and verifying again, go by it.
    assert json.loads(fleetcast("verify", "again", "--json").stdout)["landed"] == verdict["landed"]


def test_a_file_with_mistakes_is_told_line_by_line(
    fleetcast: Callable[..., Any], tmp_path: Path
) -> None:
    wrong = tmp_path / "pipeline.yaml"
    text = Path(FILE).read_text()
    wrong.write_text(text.replace("  prefix:", "  prefx:").replace("device: sensor", "devise: x"))
    done = fleetcast("pipeline", "check", str(wrong))
    assert done.returncode == 2
    assert [line.partition(": ")[2].partition(": ")[2] for line in done.stderr.splitlines()] == [
        "timeseries.columns.devise: there is no such field: did you mean device?",
        "archive.prefx: there is no such field: did you mean prefix?",
    ]

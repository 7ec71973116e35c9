from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from fleetcast.errors import UsageError
from fleetcast.pipeline import complaints, fitted, load
from simulator.scenario import Scenario

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = {"device": "sensor", "sequence": "n", "time": "time", "run": "trial"}
WHOLE: dict[str, Any] = {
    "name": "plant",
    "region": "eu-central-1",
    "stream": "plant-ingest",
    "timeseries": {"database": "plant", "table": "telemetry", "columns": COLUMNS},
    "archive": {"bucket": "raw", "prefix": "raw/%Y/%m/"},
}


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False))
    return path


def columns(**changed: Any) -> dict[str, Any]:
    """The whole file with other columns; None leaves one out."""
    merged = {**COLUMNS, **changed}
    told = {name: value for name, value in merged.items() if value is not None}
    return {**WHOLE, "timeseries": {**WHOLE["timeseries"], "columns": told}}


def test_a_file_says_where_readings_go_and_where_they_are_found(tmp_path: Path) -> None:
    pipeline = load(written(tmp_path, WHOLE))
    assert pipeline.timeseries is not None
    assert pipeline.timeseries.columns.names() == COLUMNS
    assert (pipeline.stream_name, pipeline.stream_arn) == ("plant-ingest", "")
    assert pipeline.signing_secret_arn == ""


def test_an_arn_tells_the_stream_and_its_region(tmp_path: Path) -> None:
    arn = "arn:aws:kinesis:us-west-2:123456789012:stream/other"
    told = {name: value for name, value in WHOLE.items() if name != "region"}
    pipeline = load(written(tmp_path, {**told, "stream": arn}))
    assert (pipeline.stream_name, pipeline.region, pipeline.stream_arn) == (
        "other",
        "us-west-2",
        arn,
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"strem": "x"}, ":15: strem: there is no such field: did you mean stream?"),
        (
            {"archive": {"bucket": "raw", "compresion": "gzip"}},
            ":14: archive.compresion: there is no such field: did you mean compression?",
        ),
        ({"archive": {"bucket": "raw", "zzz": 1}}, "known are bucket, prefix, format, compression"),
        ({"archive": {"prefix": "a/%j/", "bucket": "b"}}, "there is no %j: known are %Y, %m, %d"),
        ({"stream": "a b"}, "stream: 'a b' is neither the name of a Kinesis stream nor an ARN"),
        (
            {"stream": "arn:aws:kinesis:us-west-2:123456789012:stream/s"},
            ":2: region: is eu-central-1, and the stream's ARN says us-west-2",
        ),
        ({"region": None}, "region: "),
        ({"lands_within": "soon"}, "lands_within: 'soon' is not a duration"),
        ({"lands_within": "5s", "settles_after": "10s"}, "must be less than lands_within"),
        ({"alarms": {"critical-reading": "x"}}, "did you mean critical-readings?"),
        (
            {"quarantine": {"queue": "q", "refuses": ["not_jsn"]}},
            "quarantine.refuses: there is no reason 'not_jsn': did you mean not_json?",
        ),
        ({"quarantine": {"queue": "q"}}, "quarantine.refuses: is missing"),
        (
            {"archive": {"bucket": "b", "fields": {"device": "a..b", "sequence": "n"}}},
            "archive.fields.device: 'a..b' is no path",
        ),
        ({"archive": {"bucket": "b", "format": "parquet"}}, "archive.fields: is missing: the rows of"),
        (
            {"archive": {"bucket": "b", "format": "parquet", "compression": "gzip",
                         "fields": {"device": "d", "time": "t"}}},
            "archive.compression: Parquet is compressed within",
        ),
        ({"timeseries": None, "archive": None}, "nothing could be verified"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, {**WHOLE, **changed})
    with pytest.raises(UsageError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value) in complaints(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"device": None}, "timeseries.columns.device: is missing: without it readings cannot be"),
        ({"sequence": None, "time": None}, "the readings of a device cannot be told apart"),
        ({"run": None, "time": None}, "the readings of two runs cannot be told apart"),
        ({"run": "sensor"}, "timeseries.columns.run: 'sensor' is device already"),
        ({"id": "i"}, "columns.id_form: an id needs its form"),
        ({"id": "i", "id_form": "{device}/{seq}"}, "columns.device: is in the id already"),
        ({"id": "i", "id_form": "{dev}"}, "{dev} must be one of {device}, {seq}, {ts}, {run}"),
        ({"id": "i", "id_form": "{seq}{ts}"}, "put something that is no digit between its places"),
        ({"sequnce": "n"}, "columns.sequnce: there is no such field: did you mean sequence?"),
    ],
)
def test_a_mapping_that_cannot_tell_readings_apart_is_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=r"pipeline.yaml:\d+: ") as refused:
        load(written(tmp_path, columns(**changed)))
    assert said in str(refused.value)


def test_an_id_may_hold_what_tells_a_reading(tmp_path: Path) -> None:
    told = {"device": None, "sequence": None, "run": None, "time": None}
    form = "{run}:{device}.{seq}"
    pipeline = load(written(tmp_path, columns(**told, id="msg", id_form=form)))
    assert pipeline.timeseries is not None
    mapping = pipeline.timeseries.columns
    assert mapping.names() == dict.fromkeys(("run", "device", "sequence"), "msg")
    found = {
        field: [match[1] for match in [re.fullmatch(form, "r-2026-a:dev-000007.42")] if match]
        for field, form in mapping.forms().items()
    }
    assert found == {"run": ["r-2026-a"], "device": ["dev-000007"], "sequence": ["42"]}
    assert re.fullmatch(mapping.forms()["device"], "r:pump-1.42") is None


def test_what_is_no_mapping_or_no_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a pipeline is a mapping with name, stream"):
        load(written(tmp_path, "- a\n"))
    with pytest.raises(UsageError, match=r":2: not YAML"):
        load(written(tmp_path, "a: 1\n]"))
    with pytest.raises(UsageError, match="cannot read pipeline"):
        load(tmp_path / "none.yaml")


def scenario(**changed: Any) -> Scenario:
    kind = {"name": "a", "share": 1, "signals": {"t": {"model": "constant", "value": 1}}}
    kind |= changed.pop("kind", {})
    return Scenario.model_validate(
        {
            "name": "s",
            "fleet": {"devices": 10, "classes": [kind]},
            "rate": [{"shape": "constant", "rate": "20/s", "duration": "5s"}],
            **changed,
        }
    )


SKEW = {"name": "slow", "kind": "clock_skew", "offset": "-5m", "share": 0.5, "duration": "2s"}


@pytest.mark.parametrize(
    ("mapping", "driven", "said"),
    [
        ({"run": None}, {"faults": [SKEW]}, "fault slow moves readings to other times: map run"),
        (
            {"sequence": None, "time_unit": "s"},
            {},
            "tells readings by a time in whole seconds, and a device of scenario s may send two",
        ),
        (
            {},
            {"kind": {"payload": {"id": "{device}", "n": "{seq}", "trial": "{run}"}}},
            "timeseries.columns.time is 'time', and the payload of class a has no place for it",
        ),
        (
            {"measures": {"t": "temp"}},
            {"kind": {"payload": {"id": "{device}", "n": "{seq}", "r": "{run}", "at": "{ts}"}}},
            "measures.t can hold nothing of class a",
        ),
    ],
)
def test_a_scenario_that_could_not_be_verified_there_is_refused(
    tmp_path: Path, mapping: dict[str, Any], driven: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        fitted(scenario(**driven), load(written(tmp_path, columns(**mapping))))
    assert said in str(refused.value)


def test_payloads_that_are_no_json_need_lines_in_the_archive(tmp_path: Path) -> None:
    archive = {"bucket": "raw", "format": "json"}
    pipeline = load(written(tmp_path, {**WHOLE, "archive": archive}))
    broken = {"name": "broken", "kind": "corrupt", "share": 0.1, "start": "1s", "duration": "1s"}
    with pytest.raises(UsageError, match="fault broken sends payloads that are none"):
        fitted(scenario(faults=[broken]), pipeline)
    readable = {**broken, "kinds": ["missing_field"]}
    assert fitted(scenario(faults=[readable]), pipeline).faults[0].name == "broken"


def test_the_pipelines_payload_is_that_of_classes_without_their_own(tmp_path: Path) -> None:
    payload = {"id": "{device}", "n": "{seq}", "trial": "{run}", "at": "{ts}"}
    pipeline = load(written(tmp_path, {**columns(), "payload": payload}))
    assert fitted(scenario(), pipeline).fleet.classes[0].payload == payload
    own = {**payload, "more": 1}
    assert fitted(scenario(kind={"payload": own}), pipeline).fleet.classes[0].payload == own
    wrong = load(
        written(tmp_path, {**columns(), "payload": {"id": "{device}", "t": "{signals.x}"}})
    )
    with pytest.raises(UsageError, match=r"with the payload of pipeline plant: .*no signal 'x'"):
        fitted(scenario(), wrong)

"""The files that Grafana is started with."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from dashboards.grafana import boards, write
from fleetcast.cli import main
from fleetcast.errors import UsageError
from fleetcast.target import Target
from stack.config import StackConfig

CONFIG = StackConfig.for_target("local", "shown")


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    for name, board in boards(CONFIG).items():
        assert board["uid"] == f"fleetcast-{name}-shown"
        assert len(board["uid"]) <= 40
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + x, place["y"] + y)
                for x in range(place["w"])
                for y in range(place["h"])
            }
            assert not cells & taken
            taken |= cells
            assert max(x for x, _ in cells) < 24


def test_every_chart_of_the_cloudwatch_dashboard_is_there_with_its_thresholds():
    by_title = {panel["title"]: panel for panel in boards(CONFIG)["pipeline"]["panels"]}
    steps = by_title["How far consumers are behind (ms)"]["fieldConfig"]["defaults"]["thresholds"]
    assert steps["steps"][-1] == {"color": "red", "value": CONFIG.iterator_age_limit_ms}
    assert len(by_title) >= 18


def test_the_command_writes_what_grafana_is_started_with(tmp_path, monkeypatch, capsys):
    out = tmp_path / "grafana"
    arguments = ["grafana", "--out", str(out), "--env", "shown", "--port", "4999"]
    monkeypatch.setattr("sys.argv", ["fleetcast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    names = [line.removeprefix(f"{out}/") for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "provisioning/datasources/fleetcast.yaml", "provisioning/dashboards/fleetcast.yaml",
        "dashboards/fleet.json", "dashboards/device.json", "dashboards/pipeline.json",
        "dashboards/runs.json",
    ]  # fmt: skip
    timestream, cloudwatch = yaml.safe_load((out / names[0]).read_text())["datasources"]
    assert timestream["jsonData"]["defaultDatabase"] == '"fleetcast-telemetry-shown"'
    assert cloudwatch["jsonData"]["endpoint"] == "http://127.0.0.1:4999"
    assert json.loads((out / names[2]).read_text()) == boards(CONFIG)["fleet"]
    used = {timestream["uid"], cloudwatch["uid"]}
    text = "".join((out / name).read_text() for name in names[2:])
    assert set(re.findall(r'"uid": "(fleetcast-(?:timestream|cloudwatch))"', text)) == used


def test_on_aws_no_key_and_no_endpoint_is_written(tmp_path):
    target = Target.named("aws", region="eu-west-1")
    (path, *_) = write(StackConfig.for_target("aws", "shown", region="eu-west-1"), target, tmp_path)
    text = path.read_text()
    assert "secure" not in text
    assert "endpoint" not in text
    assert "defaultRegion: eu-west-1" in text


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write(CONFIG, Target.named("local"), tmp_path / "file")

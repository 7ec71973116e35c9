from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from fleetcast import cloudctl
from fleetcast.cli import root
from fleetcast.errors import UsageError
from localcloud.environment import whole_number

if TYPE_CHECKING:
    from pathlib import Path

SCENARIO = """name: bad
fleet:
  devices: 10
  classes:
    - name: a
      share: 1
      signals:
        t: {model: constnt, value: 1}
rate: [{shape: constant, rate: 5/s, duration: 1s}]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLEETCAST_PORT", "FLEETCAST_DEBUG", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLEETCAST_RUNS", str(tmp_path / "runs"))
    (tmp_path / "bad.yaml").write_text(SCENARIO)
    (tmp_path / "torn.yaml").write_text("name: [\n")
    monkeypatch.chdir(tmp_path)


def told(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["fleetcast", *arguments])
    code = root._run()
    return int(code), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["frobnicate"], "No such command 'frobnicate': see fleetcast --help"),
        (["simulate"], "Missing argument 'scenario': see fleetcast --help"),
        (["simulate", "smoke", "--bogus"], "No such option: --bogus: see fleetcast --help"),
        (["simulate", "smoke", "--devices", "many"], "Invalid value for '--devices': "),
        (["simulate", "smoke", "--devices", "0"], "fleet.devices: "),
        (["simulate", "smoke", "--rate", "fast"], "'fast' is not a rate: write 2000/s or 30/m"),
        (["simulate", "smoke", "--rate", "1e9"], "devices is a reading of each every"),
        (["simulate", "smoke", "--duration", "-1s"], "is not a duration: write 500ms"),
        (["simulate", "smoke", "--transport", "pigeon"], "unknown transport 'pigeon': use one of"),
        (["simulate", "smoke", "--transport", "mqtt", "--env", "none"], "no stack 'none' on target"),
        (["simulate", "smoke", "--transport", "mqtt", "--devices-per-connection", "0"],
         "--devices-per-connection 0: use 1 or more"),
        (["simulate", "smoke", "--transport", "mqtt", "--connect-rate", "0"],
         "--connect-rate 0: use more than 0"),
        (["devices", "revoke"], "name the devices, or give --count N, or --all"),
        (["devices", "enrol", "--count", "3", "--env", "none"], "no stack 'none' on target local"),
        (["simulate", "smoke", "--transport", "file"], "--transport file needs --output FILE"),
        (["simulate", "smoke", "--output", "f"], "--output is for transport file, not kinesis"),
        (["simulate", "smoke", "--transport", "null", "--aggregate"], "--aggregate is for transport"),
        (["simulate", "smoke", "--transport", "null", "--ordering", "strict"],
         "--ordering strict is for transport kinesis, not null"),
        (["simulate", "smoke", "--ordering", "loose"], "unknown ordering 'loose': use relaxed or"),
        (["simulate", "smoke", "--workers", "0"], "--workers 0: use 1 to 64 for 100 devices"),
        (["simulate", "smoke", "--devices", "8", "--rate", "5/s", "--workers", "9"],
         "--workers 9: use 1 to 8 for 8 devices"),
        (["simulate", "smoke", "--transport", "stdout", "--workers", "2"],
         "--workers 2: transport stdout is written by one process"),
        (["simulate", "smoke", "--target", "moon"], "no stack 'dev' on target moon"),
        (["simulate", "smoke"], "no stack 'dev' on target local: run fleetcast deploy"),
        (["simulate", "nope"], "no scenario 'nope': give a YAML file or one of cold-chain, factory"),
        (["simulate", "bad.yaml"], "bad.yaml:8: fleet.classes.0.signals.t: unknown model 'constnt': did you mean"),
        (["simulate", "torn.yaml"], "torn.yaml:2: not YAML: "),
        (["verify", "r-1"], "no run 'r-1' in "),
        (["verify", "../etc"], "run id '../etc': use up to 64 letters"),
        (["report", "r-1"], "no run 'r-1' in "),
        (["deploy", "--target", "mars"], "unknown target 'mars': use --target local or --target"),
        (["deploy", "--env", "Prod"], "stack setting environment='Prod': use 2 to 20 lower-case"),
        (["deploy", "--env", "my-aws-x--y"], "AWS refuses names with 'aws', 'amazon' or '--'"),
        (["deploy", "--region", "nowhere"], "write an AWS region such as us-east-1"),
        (["deploy", "--engine", "pulumi"], "unknown engine 'pulumi': use builtin or terraform"),
        (["deploy", "--target", "aws", "--engine", "builtin"], "use terraform for AWS"),
        (["destroy", "--env", "nothing"], "nothing is deployed as 'nothing' on local"),
        (["destroy", "--target", "aws"], "on AWS needs --yes where nobody can be asked"),
        (["destroy", "--env", "eu-prod"], "is protected: destroy it with --even-production"),
        (["destroy", "--env", "prod", "--even-production"], "nothing is deployed as 'prod'"),
        (["deploy", "--profile", "ops"], "--profile and --role-arn are for --target aws"),
        (["deploy", "--state-bucket", "our-states"], "use --engine terraform"),
        (["deploy", "--target", "aws", "--role-arn", "me"], "--role-arn 'me' is no role"),
        (["deploy", "--region", "eu-north-1"], "Timestream for LiveAnalytics is not there"),
        (["deploy", "--set", "shards=0"], "stack setting shards=0: Input should be greater"),
        (["deploy", "--set", "record_age_s=90000"], "longer than the stream keeps records"),
        (["deploy", "--tag", "aws:x=1"], "the tag 'aws:x' is taken"),
        (["deploy", "--tag", "x"], "--tag x: write --tag NAME=VALUE"),
        (["cloud", "start", "--port", "70000"], "Invalid value for '--port': "),
        (["demo", "--scenario", "none"], "no scenario 'none': "),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_two(
    arguments: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, error = told(arguments, monkeypatch, capsys)
    assert code == 2
    assert error.startswith("fleetcast: ")
    assert error.count("\n") == 1
    assert text in error


def test_a_port_that_is_no_number_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEETCAST_PORT", "http")
    code, error = told(["cloud", "stop"], monkeypatch, capsys)
    assert (code, "FLEETCAST_PORT='http' is not a port" in error) == (2, True)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "²"])
def test_a_setting_that_is_no_whole_number_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FLEETCAST_KINESIS_MIB", value)
    with pytest.raises(UsageError, match=f"FLEETCAST_KINESIS_MIB={value}: use a whole number"):
        whole_number("FLEETCAST_KINESIS_MIB", 7)


def test_a_setting_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCAST_KINESIS_MIB", "")
    assert whole_number("FLEETCAST_KINESIS_MIB", 7) == 7


def test_a_wrong_setting_of_the_local_cloud_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEETCAST_KINESIS_MIB", "many")
    port = str(cloudctl.free_port())
    code, error = told(["cloud", "start", "--port", port], monkeypatch, capsys)
    assert code == 3
    assert error.count("\n") == 1
    assert "FLEETCAST_KINESIS_MIB=many: use a whole number from 1 on" in error


def test_a_port_in_use_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, error = told(["cloud", "start", "--port", str(port)], monkeypatch, capsys)
    assert code == 3
    assert error.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): " in error
    assert "give another with --port" in error


def test_no_cloud_is_told_before_anything_is_synthesized(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEETCAST_PORT", "9")
    code, error = told(["deploy"], monkeypatch, capsys)
    assert (code, error.count("\n")) == (3, 1)
    assert "no local cloud answers on http://127.0.0.1:9: run fleetcast cloud start" in error
    assert not list(tmp_path.glob("home/**/cdk.tf.json"))


def test_without_terraform_its_engine_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEETCAST_TERRAFORM", "no-such-terraform")
    code, error = told(["deploy", "--engine", "terraform"], monkeypatch, capsys)
    assert code == 2
    assert "Terraform 1.5 or newer is needed and 'no-such-terraform' was not found" in error


@pytest.mark.parametrize("arguments", [[], ["cloud"], ["stack"]])
def test_a_group_alone_prints_its_help(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleetcast", *arguments])
    assert root._run() == 2
    assert "Usage: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    ["synth", "deploy", "destroy", "stack check", "simulate", "verify", "report", "demo", "cloud start",
     "cloud stop", "cloud status"],
)  # fmt: skip
def test_every_command_has_help_with_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleetcast", *command.split(), "--help"])
    assert root._run() == 0
    shown = capsys.readouterr().out
    assert f"Example: fleetcast {command}" in shown

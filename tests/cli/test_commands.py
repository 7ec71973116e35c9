from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def deployed(fleetcast: Callable[..., Any]) -> Any:
    """The answers of `cloud start` and `deploy`."""
    return fleetcast("cloud", "start"), fleetcast("deploy", "--env", "cli")


def test_cloud_and_deploy_say_what_they_did(
    deployed: Any, fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    start, deploy = deployed
    port = place["FLEETCAST_PORT"]
    assert start.returncode == 0
    assert start.stdout.startswith(f"local cloud on http://127.0.0.1:{port} (pid ")
    assert deploy.returncode == 0
    lines = deploy.stdout.splitlines()
    assert lines[-1] == "deployed cli to local: stream fleetcast-ingest-cli"
    assert sum(line.startswith("created ") for line in lines) > 50
    planned = fleetcast("deploy", "--env", "cli", "--plan")
    assert planned.stdout == "plan for cli on local: 0 changes\n"
    planned = fleetcast("deploy", "--env", "other", "--plan").stdout.splitlines()
    assert planned[-1] == f"plan for other on local: {len(planned) - 1} changes"
    assert all(line.startswith("create aws_") for line in planned[:-1])
    status = json.loads(fleetcast("cloud", "status", "--json").stdout)
    assert status["running"]
    assert status["services"]["kinesis"]["streams"]["fleetcast-ingest-cli"]["open_shards"] == 10


@pytest.mark.usefixtures("deployed")
def test_simulate_verify_and_report_go_together(
    fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    run = ("--env", "cli", "--run-id", "one", "--duration", "3s", "--seed", "5", "--devices", "60")
    simulated = fleetcast("simulate", "smoke", *run)
    assert simulated.returncode == 0, simulated.stderr
    assert "acked 600, failed 0, unknown 0" in simulated.stdout
    assert simulated.stdout.splitlines()[-1] == "verify with: fleetcast verify one"

    verified = fleetcast("verify", "one", "--json")
    assert verified.returncode == 0, verified.stdout
    verdict = json.loads(verified.stdout)
    assert verdict["verdict"] == "pass"
    assert verdict["sent"] == verdict["landed"]["timeseries"]["unique"] == 600

    folder = Path(place["FLEETCAST_RUNS"]) / "one"
    assert json.loads((folder / "verdict.json").read_text()) == verdict
    junit, markdown = folder / "junit.xml", folder / "summary.md"
    again = fleetcast("verify", "one", "--junit", str(junit), "--markdown", str(markdown))
    assert again.returncode == 0, again.stderr
    assert f'tests="{len(verdict["checks"])}" failures="0"' in junit.read_text()
    assert markdown.read_text().startswith("## fleetcast: pass\n")
    nowhere = fleetcast("verify", "one", "--junit", str(folder / "no" / "such.xml"))
    assert nowhere.returncode == 2
    assert nowhere.stderr.splitlines()[-1].endswith("such.xml: No such file or directory")
    (folder / "report.html").unlink()
    reported = fleetcast("report", "one")
    assert reported.stdout.strip() == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 100_000

    again = fleetcast("simulate", "smoke", *run)
    assert again.returncode == 2
    assert "run 'one' exists" in again.stderr


@pytest.mark.usefixtures("deployed")
def test_a_verdict_that_fails_is_exit_code_one(
    fleetcast: Callable[..., Any], tmp_path: Path
) -> None:
    scenario = tmp_path / "strict.yaml"
    scenario.write_text(
        "name: strict\n"
        "fleet:\n"
        "  devices: 20\n"
        "  classes:\n"
        "    - {name: a, share: 1, signals: {t: {model: constant, value: 1}}}\n"
        "rate: [{shape: constant, rate: 50/s, duration: 1s}]\n"
        "expect: {landing_latency_p99: 0s}\n"
    )
    simulated = fleetcast("simulate", str(scenario), "--env", "cli", "--run-id", "strict", "--json")
    assert json.loads(simulated.stdout)["acked"] == 50
    verified = fleetcast("verify", "strict")
    assert verified.returncode == 1
    assert "FAILED      landing_latency: p99 " in verified.stdout
    assert "verdict     fail (" in verified.stdout


@pytest.mark.usefixtures("deployed")
def test_destroy_takes_everything_down_and_says_so(fleetcast: Callable[..., Any]) -> None:
    assert fleetcast("deploy", "--env", "gone").returncode == 0
    destroyed = fleetcast("destroy", "--env", "gone")
    assert destroyed.returncode == 0
    assert destroyed.stdout.splitlines()[-1] == "destroyed gone on local"
    twice = fleetcast("destroy", "--env", "gone")
    assert twice.returncode == 2
    assert twice.stderr == "fleetcast: nothing is deployed as 'gone' on local\n"
    left = json.loads(fleetcast("cloud", "status", "--json").stdout)["services"]
    assert set(left["kinesis"]["streams"]) == {"fleetcast-ingest-cli"}


def test_synth_writes_the_stack_where_the_contract_says(
    fleetcast: Callable[..., Any], tmp_path: Path
) -> None:
    done = fleetcast("synth", "--env", "paper", "--out", str(tmp_path))
    written = tmp_path / "stacks" / "fleetcast-paper" / "cdk.tf.json"
    assert done.stdout.strip() == str(written)
    assert "aws_kinesis_stream" in json.loads(written.read_text())["resource"]


def test_a_stack_is_checked_and_what_is_wrong_is_exit_code_one(
    fleetcast: Callable[..., Any], tmp_path: Path
) -> None:
    clean = fleetcast("stack", "check", "--env", "paper", "--target", "aws")
    assert (clean.returncode, clean.stdout) == (0, "stack paper: 0 findings\n")
    stack = {"resource": {"aws_sqs_queue": {"q": {"name": "queue"}}}}
    (tmp_path / "cdk.tf.json").write_text(json.dumps(stack))
    folder = ("--folder", str(tmp_path))
    wrong = fleetcast("stack", "check", "--env", "dev", *folder)
    assert wrong.returncode == 1
    assert "aws_sqs_queue.q: name 'queue' does not end in -dev [suffix]" in wrong.stdout
    told = json.loads(fleetcast("stack", "check", "--env", "dev", *folder, "--json").stdout)
    assert {finding["rule"] for finding in told} == {"suffix", "tls", "encryption", "queue-policy"}


def test_a_cloud_that_restarted_is_deployed_anew(
    fleetcast: Callable[..., Any], deployed: Any
) -> None:
    assert deployed[1].returncode == 0
    assert fleetcast("cloud", "stop").stdout == "local cloud stopped\n"
    down = fleetcast("cloud", "status")
    assert (down.returncode, down.stdout.startswith("no local cloud on ")) == (3, True)
    gone = fleetcast("simulate", "smoke", "--env", "cli")
    assert gone.returncode == 3
    assert "cannot read the signing key" in gone.stderr
    assert fleetcast("cloud", "start").returncode == 0
    lines = fleetcast("deploy", "--env", "cli").stdout.splitlines()
    assert sum(line.startswith("created ") for line in lines) > 50

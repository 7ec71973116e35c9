"""The manifests of deploy/load: filled in, they are what Kubernetes, ECS and Locust take."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "load"
SCRIPT = ROOT / "scripts" / "load_manifest.py"
_spec = importlib.util.spec_from_file_location("load_manifest", SCRIPT)
assert _spec
assert _spec.loader
load_manifest: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(load_manifest)

VALUES = {
    "IMAGE": "registry.example/fleetcast-load:1", "ROLE_ARN": "arn:aws:iam::123456789012:role/load",
    "EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution", "RUNS_SIZE": "100Gi",
    "RUN_ID": "launch-1", "WORKERS": "8", "TASKS": "2", "SCENARIO": "cold-chain",
    "ENVIRONMENT": "prod", "DEVICES": "100000", "RATE": "200000/s", "DURATION": "600s",
    "REGION": "eu-west-1", "CLUSTER": "load", "SUBNET": "subnet-1", "MASTER_HOST": "10.0.0.7",
    "MASTER_SECURITY_GROUP": "sg-1", "WORKER_SECURITY_GROUP": "sg-2", "LOG_GROUP": "/fleetcast/load",
    "FILE_SYSTEM_ID": "fs-1", "ACCESS_POINT_ID": "fsap-1",
    "OUTPUTS_PARAMETER_ARN": "arn:aws:ssm:eu-west-1:123456789012:parameter/fleetcast/prod",
}  # fmt: skip
# Fargate's sizes: vCPU units to (least, most, step) MiB.
FARGATE = {
    256: (512, 2048, 512), 512: (1024, 4096, 1024), 1024: (2048, 8192, 1024),
    2048: (4096, 16384, 1024), 4096: (8192, 30720, 1024), 8192: (16384, 61440, 4096),
    16384: (32768, 122880, 8192),
}  # fmt: skip
# Locust's own parser, with the options of the locustfile.
PARSE = """
import json, sys
import locust  # first: it patches what others import
import loadtests.locustfile
from locust.argument_parser import parse_options
found = vars(parse_options(sys.argv[1:]))
print(json.dumps({name: value for name, value in found.items() if isinstance(value, str | int | float)}))
"""


def values_of(name: str) -> dict[str, str]:
    needed = re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", (FOLDER / f"{name}.yaml").read_text())
    return {key: VALUES[key] for key in needed}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(load_manifest.filled(name, values_of(name))))


def kubernetes(kind: str, name: str) -> Any:
    (found,) = (
        one
        for one in documents("kubernetes")
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
    )
    return found


def job(role: str) -> Any:
    return kubernetes("Job", f"launch-1-{role}")["spec"]


def pod(role: str) -> Any:
    return job(role)["template"]["spec"]


def container(role: str) -> Any:
    (found,) = pod(role)["containers"]
    return found


def parsed(arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_drives_the_run(options: dict[str, Any]) -> None:
    assert options["master"]
    assert options["headless"]
    # As many users as workers: each worker has one slice.
    assert options["num_users"] == options["expect_workers"] == 8
    assert (options["scenario"], options["fleet_target"]) == ("cold-chain", "aws")
    assert (options["fleet_env"], options["fleet_run_id"]) == ("prod", "launch-1")
    assert (options["fleet_devices"], options["fleet_rate"]) == (100_000, "200000/s")
    assert options["fleet_duration"] == "600s"
    assert options["max_lost"] == 0
    for report in ("junit", "html_file", "csv_prefix"):
        assert options[report].startswith("/runs/launch-1")


def test_locust_takes_the_arguments_of_the_jobs() -> None:
    assert_drives_the_run(parsed(container("master")["args"]))
    options = parsed(container("workers")["args"])
    assert options["worker"]
    service = kubernetes("Service", "fleetcast-master")
    (port,) = service["spec"]["ports"]
    assert options["master_host"] == service["metadata"]["name"]
    assert options["master_port"] == port["port"] == parsed(["--master"])["master_bind_port"]


def test_the_service_and_the_policies_mean_the_pods_of_the_jobs() -> None:
    labels = {role: job(role)["template"]["metadata"]["labels"] for role in ("master", "workers")}
    master, worker = labels["master"], labels["workers"]
    assert kubernetes("Service", "fleetcast-master")["spec"]["selector"] == master
    closed = kubernetes("NetworkPolicy", "fleetcast-load")["spec"]
    assert closed["podSelector"]["matchLabels"].items() <= master.items() & worker.items()
    assert closed["ingress"] == []
    opened = kubernetes("NetworkPolicy", "fleetcast-master")["spec"]
    assert opened["podSelector"]["matchLabels"] == master
    (rule,) = opened["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"]] == [worker]
    (port,) = container("master")["ports"]
    (service_port,) = kubernetes("Service", "fleetcast-master")["spec"]["ports"]
    assert [one["port"] for one in rule["ports"]] == [port["name"]] == [service_port["targetPort"]]
    assert port["containerPort"] == service_port["port"]


def test_no_run_is_driven_twice_and_a_worker_that_fails_fails_alone() -> None:
    assert job("master")["backoffLimit"] == 0
    workers = job("workers")
    # backoffLimitPerIndex needs both; a backoffLimit would end all for one.
    assert workers["completionMode"] == "Indexed"
    assert workers["backoffLimitPerIndex"] == 0
    assert "backoffLimit" not in workers
    assert workers["completions"] == workers["parallelism"] == 8
    for role in ("master", "workers"):
        assert pod(role)["restartPolicy"] == "Never"


@pytest.mark.parametrize("role", ["master", "workers"])
def test_pods_have_no_more_rights_than_they_need_and_bounds(role: str) -> None:
    assert pod(role)["securityContext"]["runAsNonRoot"]
    assert pod(role)["enableServiceLinks"] is False
    one = container(role)
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["resources"]["requests"]["memory"] == one["resources"]["limits"]["memory"]
    account = kubernetes("ServiceAccount", pod(role)["serviceAccountName"])
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == VALUES["ROLE_ARN"]
    volumes = {volume["name"] for volume in pod(role)["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert set(mounts) == volumes
    # What is written goes to these, as the file system of the container takes nothing.
    assert {"/runs", "/tmp"} <= set(mounts.values())  # noqa: S108 - a mount


def test_the_master_keeps_its_runs_and_finds_the_stack() -> None:
    volumes = {volume["name"]: volume for volume in pod("master")["volumes"]}
    claim = volumes["runs"]["persistentVolumeClaim"]["claimName"]
    kubernetes("PersistentVolumeClaim", claim)
    mounts = {mount["name"]: mount["mountPath"] for mount in container("master")["volumeMounts"]}
    image = (FOLDER / "Containerfile").read_text()
    assert f"FLEETCAST_RUNS={mounts['runs']}" in image
    (home,) = re.findall(r"FLEETCAST_HOME=(\S+)", image)
    assert mounts["outputs"] == f"{home}/deployments/aws-prod"


OPERATIONS = {
    "ecs/master": "RegisterTaskDefinition",
    "ecs/worker": "RegisterTaskDefinition",
    "ecs/run-master": "RunTask",
    "ecs/run-workers": "RunTask",
}


def test_every_manifest_is_tested() -> None:
    assert load_manifest.names() == sorted([*OPERATIONS, "kubernetes"])


@pytest.mark.parametrize(("name", "operation"), OPERATIONS.items())
def test_ecs_takes_the_requests(name: str, operation: str) -> None:
    (request,) = documents(name)
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    # The validator lets through what it does not know.
    assert unknown(request, shape) == []


def unknown(value: Any, shape: Any, place: str = "") -> list[str]:
    if shape.type_name == "structure":
        more = [f"{place}.{key}" for key in value if key not in shape.members]
        return more + [
            name
            for key in value
            if key in shape.members
            for name in unknown(value[key], shape.members[key], f"{place}.{key}")
        ]
    if shape.type_name == "list":
        return [name for one in value for name in unknown(one, shape.member, place)]
    if shape.type_name == "string" and shape.enum:
        return [] if value in shape.enum else [f"{place}={value}"]
    return []


@pytest.mark.parametrize("name", ["ecs/master", "ecs/worker"])
def test_the_tasks_have_a_size_that_fargate_has(name: str) -> None:
    (task,) = documents(name)
    assert (task["requiresCompatibilities"], task["networkMode"]) == (["FARGATE"], "awsvpc")
    least, most, step = FARGATE[int(task["cpu"])]
    memory = int(task["memory"])
    assert least <= memory <= most
    assert memory % step == 0
    (one,) = task["containerDefinitions"]
    assert one["user"] == "1000"
    assert one.get("stopTimeout", 30) <= 120
    volumes = {volume["name"] for volume in task.get("volumes", [])}
    assert {mount["sourceVolume"] for mount in one.get("mountPoints", [])} == volumes


def test_the_shell_of_the_master_writes_the_outputs_and_becomes_locust(tmp_path: Path) -> None:
    (task,) = documents("ecs/master")
    (one,) = task["containerDefinitions"]
    assert one["entryPoint"] == ["sh", "-c"]
    (script,) = one["command"]
    assert [secret["name"] for secret in one["secrets"]] == ["OUTPUTS"]
    # The same, but for where it is and what it becomes.
    (tmp_path / "locust").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "locust").chmod(0o755)
    outputs = '{"region": "eu-west-1", "alarms": {"a b": "$HOME `c`"}}'
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("/state/", f"{tmp_path}/state/")],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "OUTPUTS": outputs},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept = tmp_path / "state" / "deployments" / "aws-prod" / "outputs.json"
    assert kept.read_text() == outputs
    first, path, *arguments = done.stdout.splitlines()
    assert (first, path) == ("-f", "/opt/fleetcast/loadtests/locustfile.py")
    assert shlex.join(arguments) in script
    assert_drives_the_run(parsed(arguments))


def test_the_workers_find_the_master_and_run_as_the_definition_says() -> None:
    (definition,) = documents("ecs/worker")
    (run,) = documents("ecs/run-workers")
    assert run["taskDefinition"] == definition["family"]
    (one,) = definition["containerDefinitions"]
    options = parsed(one["command"])
    assert options["worker"]
    # One process for each vCPU.
    assert options["processes"] == int(definition["cpu"]) // 1024
    (override,) = run["overrides"]["containerOverrides"]
    assert override["name"] == one["name"]
    (variable,) = override["environment"]
    assert variable == {"name": "LOCUST_MASTER_NODE_HOST", "value": "10.0.0.7"}
    (master,) = documents("ecs/run-master")
    assert master["taskDefinition"] == documents("ecs/master")[0]["family"]


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


RUN_WORKERS = {"CLUSTER": "c", "SUBNET": "s", "WORKER_SECURITY_GROUP": "g", "MASTER_HOST": "h"}


@pytest.mark.parametrize(
    ("name", "changed", "text"),
    [
        ("nope", {}, "no manifest 'nope': there are ecs/master, ecs/run-master"),
        ("../x", {}, "no manifest '../x'"),
        ("kubernetes", {"WORKERS": None}, "kubernetes needs WORKERS=..."),
        ("kubernetes", {"COLOUR": "red"}, "kubernetes has no COLOUR: it has DEVICES, "),
        ("kubernetes", {"WORKERS": "0"}, "WORKERS=0: give a whole number, 1 or more"),
        ("kubernetes", {"WORKERS": "9", "DEVICES": "8"}, "WORKERS=9 is more than the 8 devices"),
        ("kubernetes", {"RUN_ID": "Launch_1"}, "RUN_ID=Launch_1: it names jobs"),
        ("kubernetes", {"SCENARIO": "a; reboot"}, "SCENARIO='a; reboot': letters, digits"),
        ("ecs/run-workers", {"TASKS": "11"}, "TASKS=11: one call starts 10 at most"),
    ],
)
def test_wrong_values_are_told_in_a_line(
    name: str, changed: dict[str, str | None], text: str
) -> None:
    known = values_of(name) if (FOLDER / f"{name}.yaml").exists() else {}
    given_values = {**known, **changed}
    done = script(name, *(f"{key}={one}" for key, one in given_values.items() if one is not None))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"load_manifest: {text}")
    assert done.stderr.count("\n") == 1


def test_the_script_prints_what_it_filled_in_and_tells_how_it_is_called() -> None:
    given_values = values_of("ecs/run-master")
    done = script("ecs/run-master", *(f"{key}={one}" for key, one in given_values.items()))
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout) == documents("ecs/run-master")[0]
    assert script("--help").returncode == 0
    assert "Manifests: ecs/master" in script("--help").stdout
    assert script().returncode == 2
    wrong = script("ecs/run-master", "CLUSTER")
    assert (wrong.returncode, "'CLUSTER' is no NAME=VALUE" in wrong.stderr) == (2, True)


@given(st.text(max_size=30))
def test_no_value_changes_what_a_manifest_is(text: str) -> None:
    values = {**values_of("ecs/run-workers"), "MASTER_HOST": text}
    try:
        (document,) = yaml.safe_load_all(load_manifest.filled("ecs/run-workers", values))
    except load_manifest.ManifestError:
        return
    (override,) = document["overrides"]["containerOverrides"]
    assert str(override["environment"][0]["name"]) == "LOCUST_MASTER_NODE_HOST"
    assert document.keys() == documents("ecs/run-workers")[0].keys()


def test_the_image_has_what_the_manifests_ask_for() -> None:
    image = (FOLDER / "Containerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", image, re.MULTILINE)
    assert json.loads(entry)[:2] == ["locust", "-f"]
    locustfile = Path(json.loads(entry)[2])
    (folder,) = re.findall(r"^WORKDIR (\S+)$", image, re.MULTILINE)
    assert (ROOT / locustfile.relative_to(folder)).is_file()
    assert "--require-hashes -r requirements.lock" in image
    assert re.search(r"^locust==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    users = re.findall(r"^USER (\S+)$", image, re.MULTILINE)
    assert users == [str(pod("master")["securityContext"]["runAsUser"])]
    # Before it belongs to nobody else, it makes what the volumes lie over.
    made = re.findall(r"install --directory --owner fleetcast (.*) *\n", image)
    assert {"/state", "/runs"} <= set(made[0].split())

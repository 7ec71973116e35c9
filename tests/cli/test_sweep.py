from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from fleetcast.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable


def test_sweep_tells_and_deletes_what_is_old_enough(
    fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    fleetcast("cloud", "start")
    target = Target.named("local", port=int(place["FLEETCAST_PORT"]))
    kinesis = botocore.session.get_session().create_client("kinesis", **target.client_kwargs())
    kinesis.create_stream(StreamName="fleetcast-ingest-nightly-9", ShardCount=1)
    young = fleetcast("sweep", "--older-than", "1h")
    assert (young.returncode, young.stderr) == (0, "")
    assert young.stdout.splitlines()[-1] == "swept local: 0 deleted, 1 kept"
    s3 = botocore.session.get_session().create_client("s3", **target.client_kwargs())
    s3.create_bucket(Bucket="our-states")
    for name in ("nightly-9", "nightly-8"):
        s3.put_object(Bucket="our-states", Key=f"fleetcast/{name}/terraform.tfstate", Body=b"{}")
    swept = fleetcast("sweep", "--older-than", "0s", "--state-bucket", "our-states", "--json")
    assert swept.returncode == 0, swept.stderr
    assert json.loads(swept.stdout) == {"deleted": ["nightly-9"], "kept": [], "failed": []}
    assert kinesis.list_streams()["StreamNames"] == []
    left = [entry["Key"] for entry in s3.list_objects_v2(Bucket="our-states")["Contents"]]
    assert left == ["fleetcast/nightly-8/terraform.tfstate"]


def test_the_devices_of_an_environment_that_is_swept_are_retired(
    fleetcast: Callable[..., Any], place: dict[str, str]
) -> None:
    fleetcast("cloud", "start")
    assert fleetcast("deploy", "--env", "nightly-7").returncode == 0
    assert fleetcast("deploy", "--env", "others").returncode == 0
    for environment in ("nightly-7", "others"):
        done = fleetcast("devices", "enrol", "--env", environment, "--count", "2")
        assert done.returncode == 0, done.stderr
    swept = fleetcast("sweep", "--older-than", "0s", "--prefix", "nightly-7")
    assert swept.returncode == 0, swept.stderr
    lines = swept.stdout.splitlines()
    assert (lines[0], lines[-1]) == (
        "retired 2 devices of nightly-7", "swept local: 1 deleted, 0 kept",
    )  # fmt: skip
    target = Target.named("local", port=int(place["FLEETCAST_PORT"]))
    iot = botocore.session.get_session().create_client("iot", **target.client_kwargs())
    assert {thing["thingName"] for thing in iot.list_things()["things"]} == {
        "fleetcast-dev-000000-others", "fleetcast-dev-000001-others",
    }  # fmt: skip
    assert len(iot.list_certificates()["certificates"]) == 2
    assert [kind["thingTypeName"] for kind in iot.list_thing_types()["thingTypes"]] == [
        "fleetcast-device-others"
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--target", "aws"], "sweeping AWS needs --yes where nobody can be asked"),
        (["--older-than", "soon"], "--older-than: 'soon' is not a duration"),
        (["--prefix", "n"], "--prefix 'n' is too short"),
    ],
)
def test_sweep_refuses_what_it_cannot_do(
    fleetcast: Callable[..., Any], arguments: list[str], text: str
) -> None:
    done = fleetcast("sweep", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert done.stderr.count("\n") == 1

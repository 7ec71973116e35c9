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

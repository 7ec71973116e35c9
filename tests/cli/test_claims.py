"""Devices that come with a claim certificate, and an environment that is destroyed under them."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from simulator.identities import Identities

DEVICES = 12


@pytest.fixture(scope="module")
def claimed(fleetcast, deployed):
    done = fleetcast("devices", "enrol", "--claim", "--count", str(DEVICES))
    assert done.returncode == 0, done.stderr
    assert f"enrolled {DEVICES}, 0 were enrolled already" in done.stdout


@pytest.fixture
def iot(place):
    return boto3.client(
        "iot", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{place['FLEETCAST_PORT']}",
        aws_access_key_id="x", aws_secret_access_key="x",
    )  # fmt: skip


def folder_of(place) -> Path:
    return Path(place["FLEETCAST_HOME"]) / "deployments" / "local-dev"


def test_gateways_come_with_no_claim(fleetcast, deployed):
    done = fleetcast("devices", "enrol", "--claim", "--gateways", "--count", "1")
    assert done.returncode == 2
    assert "--claim is for devices" in done.stderr


def test_devices_become_things_with_the_policy_and_group_of_their_template(
    place, claimed, iot
):  # fmt: skip
    things = {one["thingName"] for one in iot.list_things()["things"]}
    assert things == {f"fleetcast-dev-{n:06d}-dev" for n in range(DEVICES)}
    grouped = iot.list_things_in_thing_group(thingGroupName="fleetcast-devices-dev")["things"]
    assert set(grouped) == things
    number = Identities(folder_of(place) / "devices", "dev").certificate_id("dev-000003")
    told = iot.describe_certificate(certificateId=number)["certificateDescription"]
    assert told["status"] == "ACTIVE"
    (policy,) = iot.list_attached_policies(target=told["certificateArn"])["policies"]
    assert policy["policyName"] == "fleetcast-device-dev"


def test_it_goes_on_where_it_was_and_takes_over_things_whose_keys_are_lost(
    fleetcast, place, claimed, iot
):
    lost = folder_of(place) / "devices" / "dev-000003.pem"
    number = Identities(lost.parent, "dev").certificate_id("dev-000003")
    lost.unlink()
    done = fleetcast("devices", "enrol", "--claim", "--count", str(DEVICES))
    assert f"enrolled 1, {DEVICES - 1} were enrolled already" in done.stdout, done.stderr
    numbers = {one["certificateId"] for one in iot.list_certificates()["certificates"]}
    # Of the devices, and the claim.
    assert len(numbers) == DEVICES + 1
    assert number not in numbers


def test_they_send_like_any_other(fleetcast, claimed):
    done = fleetcast("simulate", "smoke", "--devices", str(DEVICES), "--rate", "50/s",
                     "--duration", "2s", "--transport", "mqtt", "--run-id", "claimed")  # fmt: skip
    assert done.returncode == 0, done.stderr
    verified = fleetcast("verify", "claimed", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_template_that_is_gone_is_told_in_one_line(fleetcast, claimed, iot):
    name = "fleetcast-fleet-dev"
    iot.update_provisioning_template(templateName=name, enabled=False)
    done = fleetcast("devices", "enrol", "--claim", "--count", str(DEVICES + 1))
    assert done.returncode == 3
    assert "rejected dev-000012: InvalidTemplate" in done.stderr
    assert "0 of 1 are done: run the same again to go on" in done.stderr
    iot.update_provisioning_template(templateName=name, enabled=True)


def test_an_environment_with_devices_is_not_destroyed_by_accident(fleetcast, place, claimed):
    done = fleetcast("destroy")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"is in use: {DEVICES} devices are enrolled, fleetcast-dev-000000-dev the first" in line
    assert "fleetcast devices revoke --all --delete --target local --env dev" in line
    assert "--devices" in line
    # Another machine has no keys to revoke by.
    away = folder_of(place) / "devices"
    away.rename(away.with_name("away"))
    line = fleetcast("destroy").stderr
    away.with_name("away").rename(away)
    assert "revoke" not in line
    assert "destroy it with --devices" in line


def test_it_is_destroyed_with_its_devices_if_that_is_said(fleetcast, place, claimed, iot):
    done = fleetcast("destroy", "--devices")
    assert done.returncode == 0, done.stderr
    assert f"retired {DEVICES:,} devices" in done.stdout
    # That of the device which was rejected is deleted when its token ends.
    left = iot.list_certificates()["certificates"]
    assert [one["status"] for one in left] == ["PENDING_ACTIVATION"]
    assert iot.list_things()["things"] == []
    assert iot.list_policies()["policies"] == []
    assert list(folder_of(place).glob("*/*.pem")) == []


def test_an_environment_with_a_claim_and_no_devices_is_destroyed(fleetcast, claimed, iot):
    assert fleetcast("deploy").returncode == 0
    assert fleetcast("devices", "enrol", "--claim", "--count", "1").returncode == 0
    assert "deleted 1" in fleetcast("devices", "revoke", "dev-000000", "--delete").stdout
    done = fleetcast("destroy")
    assert done.returncode == 0, done.stderr
    left = iot.list_certificates()["certificates"]
    assert {one["status"] for one in left} == {"PENDING_ACTIVATION"}

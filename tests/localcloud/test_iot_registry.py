"""IoT Core's calls that are made for each device: what they answer, and that they take effect at once."""

from __future__ import annotations

import aiomqtt
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from tests.localcloud.iot import ARN, Things, allow

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def things(cloud):
    return Things(cloud)


@pytest_asyncio.fixture(loop_scope="module")
async def iot(cloud):
    return await cloud.client("iot")


async def test_a_thing_that_is_made_alike_is_the_same_and_another_of_its_name_is_refused(iot, name):
    made = await iot.create_thing(thingName=name, attributePayload={"attributes": {"a": "1"}})
    again = await iot.create_thing(thingName=name, attributePayload={"attributes": {"a": "1"}})
    assert again["thingId"] == made["thingId"]
    assert made["thingArn"] == f"{ARN}:thing/{name}"
    with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
        await iot.create_thing(thingName=name)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await iot.create_thing(thingName=f"{name}-b", thingTypeName="none")


async def test_what_is_not_there_is_refused_and_so_is_what_is_still_in_use(iot, things, name):
    device = await things.device(name)
    missing = f"{ARN}:cert/{'0' * 64}"
    for call, asked in (
        (iot.attach_policy, {"policyName": "none", "target": device.arn}),
        (iot.attach_policy, {"policyName": "none", "target": missing}),
        (iot.attach_thing_principal, {"thingName": "none", "principal": device.arn}),
        (iot.attach_thing_principal, {"thingName": name, "principal": missing}),
        (iot.detach_thing_principal, {"thingName": name, "principal": missing}),
        (iot.update_certificate, {"certificateId": "0" * 64, "newStatus": "ACTIVE"}),
        (iot.add_thing_to_thing_group, {"thingGroupName": "none", "thingName": name}),
        (iot.delete_thing, {"thingName": "none"}),
    ):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            await call(**asked)
    with pytest.raises(ClientError, match="still attached"):
        await iot.delete_thing(thingName=name)
    with pytest.raises(ClientError, match="VersionConflictException"):
        await iot.delete_thing(thingName=name, expectedVersion=7)
    with pytest.raises(ClientError, match="CertificateStateException"):
        await iot.delete_certificate(certificateId=device.certificate_id)
    await iot.update_certificate(certificateId=device.certificate_id, newStatus="REVOKED")
    with pytest.raises(ClientError, match="DeleteConflictException"):
        await iot.delete_certificate(certificateId=device.certificate_id)


async def test_a_status_that_is_iot_cores_own_cannot_be_set(iot, things, name):
    device = await things.device(name)
    with pytest.raises(ClientError, match="newStatus is one of ACTIVE, INACTIVE, REVOKED"):
        await iot.update_certificate(
            certificateId=device.certificate_id, newStatus="PENDING_ACTIVATION"
        )


async def test_policies_that_come_and_go_are_followed_by_connected_devices(iot, things, name):
    device = await things.device(name, [allow("Connect", "client/*")])
    await things.policy(name, [allow("Publish", "topic/a")])
    await iot.create_thing_group(thingGroupName=name)
    group = f"{ARN}:thinggroup/{name}"
    for attach, detach, asked in (
        (iot.attach_policy, iot.detach_policy, {"policyName": name, "target": device.arn}),
        (
            iot.add_thing_to_thing_group,
            iot.remove_thing_from_thing_group,
            {"thingGroupName": name, "thingName": name},
        ),
    ):
        if "thingName" in asked:
            await iot.attach_policy(policyName=name, target=group)
        async with device.connected() as client:
            await attach(**asked)
            await client.publish("a", b"", qos=1)
            await detach(**asked)
            with pytest.raises(aiomqtt.MqttError):
                await client.publish("a", b"", qos=1)


async def test_a_thing_that_is_deleted_is_in_no_group_any_more(iot, name):
    await iot.create_thing_group(thingGroupName=name)
    await iot.create_thing(thingName=name)
    await iot.add_thing_to_thing_group(thingGroupName=name, thingName=name)
    await iot.delete_thing(thingName=name)
    assert (await iot.list_things_in_thing_group(thingGroupName=name))["things"] == []

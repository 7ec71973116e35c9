"""Certificates of the local IoT Core: who issues them, and which of them open a connection."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import ssl
from contextlib import AsyncExitStack

import aiomqtt
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from localcloud.app import LocalCloud
from localcloud.iot.meter import GROUP
from tests.localcloud.conftest import Cloud
from tests.localcloud.iot import ALL, Things, self_made, signing_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest_asyncio.fixture(loop_scope="module")
async def things(cloud):
    return Things(cloud)


async def refused(things, device, eventually):
    """A connection is refused and counted, and another one stands."""
    before = things.counts().get("Connect.AuthError", 0)
    with pytest.raises((aiomqtt.MqttError, OSError)):
        async with device.connected(timeout=2):
            pass
    await eventually(lambda: things.counts().get("Connect.AuthError", 0) > before)


async def test_a_certificate_is_of_the_requests_key_and_named_by_its_digest(things, cloud):
    iot = await cloud.client("iot")
    _, csr = signing_request()
    made = await iot.create_certificate_from_csr(certificateSigningRequest=csr, setAsActive=False)
    certificate = x509.load_pem_x509_certificate(made["certificatePem"].encode())
    authority = x509.load_pem_x509_certificate(things.ca_pem.encode())
    certificate.verify_directly_issued_by(authority)
    assert certificate.public_key() == x509.load_pem_x509_csr(csr.encode()).public_key()
    der = ssl.PEM_cert_to_DER_cert(made["certificatePem"])
    assert made["certificateId"] == hashlib.sha256(der).hexdigest()
    told = await iot.describe_certificate(certificateId=made["certificateId"])
    assert told["certificateDescription"]["status"] == "INACTIVE"


async def test_a_request_that_is_none_is_refused(cloud):
    iot = await cloud.client("iot")
    with pytest.raises(ClientError, match=r"InvalidRequestException.*Invalid CSR"):
        await iot.create_certificate_from_csr(certificateSigningRequest="not one")


async def test_keys_made_for_a_device_fit_its_certificate(things, cloud, name):
    iot = await cloud.client("iot")
    made = await iot.create_keys_and_certificate(setAsActive=True)
    await iot.create_thing(thingName=name)
    await iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
    await things.policy(name, ALL)
    await iot.attach_policy(policyName=name, target=made["certificateArn"])
    pem = made["keyPair"]["PrivateKey"] + made["certificatePem"]
    device = things.holding(name, made["certificateArn"], made["certificateId"], pem)
    async with device.connected() as client:
        await client.publish("x", b"", qos=1)


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
async def test_a_certificate_that_is_taken_back_disconnects_its_device_and_opens_no_connection(
    things, cloud, name, status, eventually
):
    device, other = await things.device(name), await things.device(f"{name}-b")
    iot = await cloud.client("iot")
    async with other.connected() as standing:
        async with device.connected() as client:
            await iot.update_certificate(certificateId=device.certificate_id, newStatus=status)
            with pytest.raises(aiomqtt.MqttError):
                await anext(client.messages)
        await refused(things, device, eventually)
        await standing.publish("x", b"", qos=1)
    await iot.update_certificate(certificateId=device.certificate_id, newStatus="ACTIVE")
    async with device.connected() as client:
        await client.publish("x", b"", qos=1)


async def test_certificates_of_nobody_and_of_other_authorities_open_no_connection(
    things, name, eventually
):
    own = self_made(start=NOW - DAY, end=NOW + DAY)
    stranger = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(things.ca_pem.encode()).subject
    # It says that it was issued by the authority, and was not.
    forged = self_made(stranger, issuer, start=NOW - DAY, end=NOW + DAY)
    authority = things.service._authority
    expired = self_made(authority._key, issuer, start=NOW - 3 * DAY, end=NOW - DAY)
    unknown = self_made(authority._key, issuer, start=NOW - DAY, end=NOW + DAY)
    for _, pem in (own, forged, expired, unknown):
        await refused(things, things.holding(name, "", "", pem), eventually)


async def test_a_certificate_that_was_registered_itself_opens_a_connection(
    things, cloud, name, eventually
):
    iot = await cloud.client("iot")
    certificate, pem = self_made(start=NOW - DAY, end=NOW + DAY)
    made = await iot.register_certificate_without_ca(certificatePem=certificate, status="ACTIVE")
    await things.policy(name, ALL)
    await iot.attach_policy(policyName=name, target=made["certificateArn"])
    device = things.holding(name, made["certificateArn"], made["certificateId"], pem)
    async with device.connected() as client:
        await client.publish("x", b"", qos=1)


async def test_refusals_are_lines_of_the_log_group_once_logging_is_on(
    things, cloud, name, eventually
):
    iot, logs = await cloud.client("iot"), await cloud.client("logs")
    await iot.set_v2_logging_options(
        roleArn="arn:aws:iam::123456789012:role/r", defaultLogLevel="ERROR"
    )
    assert (await iot.get_v2_logging_options())["defaultLogLevel"] == "ERROR"
    device = await things.device(name, [])
    with pytest.raises(aiomqtt.MqttError):
        async with device.connected():
            pass

    async def line():
        try:
            found = await logs.filter_log_events(logGroupName=GROUP, filterPattern=f'"{name}"')
        except ClientError:
            return None
        return found["events"]

    told = json.loads((await eventually(line))[0]["message"])
    assert (told["eventType"], told["status"], told["logLevel"]) == ("Connect", "Failure", "ERROR")
    assert told["principalId"] == device.certificate_id
    assert "do not allow iot:Connect" in told["details"]
    await iot.set_v2_logging_options(disableAllLogs=True)
    with pytest.raises(ClientError, match="defaultLogLevel"):
        await iot.set_v2_logging_options(defaultLogLevel="LOUD")


async def test_devices_of_a_cloud_in_a_folder_connect_after_it_was_started_again(tmp_path):
    async with LocalCloud(data=tmp_path / "d") as local, AsyncExitStack() as clients:
        before = Things(Cloud(local, clients))
        device = await before.device("kept")
        iot = await before.cloud.client("iot")
        made = await iot.create_keys_and_certificate(setAsActive=True)
        rule = {"sql": "SELECT * FROM 'a'", "actions": []}
        await iot.create_topic_rule(ruleName="kept", topicRulePayload=rule)
    async with LocalCloud(data=tmp_path / "d") as local, AsyncExitStack() as clients:
        after = Things(Cloud(local, clients))
        assert after.ca_pem == before.ca_pem
        device.port = after.service.port
        async with device.connected() as client:
            await client.publish("a", b"", qos=1)
        assert after.counts()["TopicMatch"] == 1
        iot = await after.cloud.client("iot")
        kept = await iot.describe_certificate(certificateId=made["certificateId"])
        assert kept["certificateDescription"]["certificatePem"] == made["certificatePem"]

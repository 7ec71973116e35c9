"""Provisioning by claim: certificates and things that devices ask for over MQTT, and their templates."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import aiomqtt
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from localcloud import cbor
from localcloud.app import LocalCloud
from localcloud.iot import provisioning
from localcloud.iot.template import Template, TemplateError
from tests.localcloud.conftest import Cloud
from tests.localcloud.iot import ARN, Things, allow, signing_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOPICS = ("$aws/certificates/*", "$aws/provisioning-templates/*")
CLAIM = [
    allow("Connect", "client/*"),
    allow("Publish", *(f"topic/{topic}" for topic in TOPICS)),
    allow("Receive", *(f"topic/{topic}" for topic in TOPICS)),
    allow("Subscribe", *(f"topicfilter/{topic}" for topic in TOPICS)),
]
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"Service": "iot.amazonaws.com"},
        }
    ],
}  # fmt: skip
MAY = [
    {"Effect": "Allow", "Action": ["iot:CreateThing", "iot:DescribeThing", "iot:UpdateThing",
                                   "iot:AddThingToThingGroup", "iot:ListThingGroupsForThing",
                                   "iot:RemoveThingFromThingGroup"],
     "Resource": [f"{ARN}:thing/*", f"{ARN}:thinggroup/*"]},
    {"Effect": "Allow", "Action": ["iot:AttachPolicy", "iot:UpdateCertificate",
                                   "iot:DescribeCertificate"], "Resource": [f"{ARN}:cert/*"]},
    {"Effect": "Allow", "Action": ["iot:CreatePolicy"], "Resource": [f"{ARN}:policy/*"]},
    {"Effect": "Allow", "Action": ["iot:AttachThingPrincipal"], "Resource": ["*"]},
]  # fmt: skip
CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}


def body_of(thing=None, overrides=None, policy=None, **more):
    resources = {"certificate": CERTIFICATE}
    if thing is not None:
        resources["thing"] = {"Type": "AWS::IoT::Thing", "Properties": thing}
        if overrides:
            resources["thing"]["OverrideSettings"] = overrides
    if policy is not None:
        resources["policy"] = {"Type": "AWS::IoT::Policy", "Properties": policy}
    return json.dumps(
        {"Parameters": {"Serial": {"Type": "String"}}, "Resources": resources, **more}
    )


class Fleet:
    """A template with its role, and a claim certificate."""

    def __init__(self, cloud, name):
        self.cloud, self.name, self.things = cloud, name, Things(cloud)

    async def made(self, body=None, may=MAY, *, enabled=True):
        iam, iot = await self.cloud.client("iam"), await self.cloud.client("iot")
        role = await iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=json.dumps(TRUST))
        document = json.dumps({"Version": "2012-10-17", "Statement": may})
        await iam.put_role_policy(RoleName=self.name, PolicyName="p", PolicyDocument=document)
        await iot.create_thing_type(thingTypeName=self.name)
        await iot.create_thing_group(thingGroupName=self.name)
        await self.things.policy(self.name, [allow("Connect", "client/*"), allow("Publish", "*")])
        await iot.create_provisioning_template(
            templateName=self.name, provisioningRoleArn=role["Role"]["Arn"], enabled=enabled,
            templateBody=body or self.body(),
        )  # fmt: skip
        self.claim = await self.things.device(f"{self.name}-claim", CLAIM, thing=False)
        return self

    def body(self, **more):
        thing = {
            "ThingName": {"Fn::Join": ["-", [self.name, {"Ref": "Serial"}]]},
            "ThingTypeName": self.name, "ThingGroups": [self.name],
            "AttributePayload": {"serial": {"Ref": "Serial"}},
        }  # fmt: skip
        configuration = {"url": {"Fn::Sub": "https://x/${Serial}"}}
        policy = {"PolicyName": self.name}
        return body_of(thing, policy=policy, DeviceConfiguration=configuration, **more)

    @asynccontextmanager
    async def connected(self):
        async with self.claim.connected() as client:
            for start in (
                "$aws/certificates/create", "$aws/certificates/create-from-csr",
                f"$aws/provisioning-templates/{self.name}/provision",
            ):  # fmt: skip
                await client.subscribe(f"{start}/+/+", qos=1)
            yield client

    async def ask(self, client, topic, payload, form="json"):
        """(accepted or rejected, what it says)."""
        data = cbor.dumps(payload) if form == "cbor" else json.dumps(payload)
        await client.publish(f"$aws/{topic}/{form}", data, qos=1)
        async with asyncio.timeout(20):
            got = await anext(client.messages)
        told = cbor.loads(got.payload) if form == "cbor" else json.loads(got.payload)
        return str(got.topic).rpartition("/")[2], told

    async def certificate(self, client):
        key, csr = signing_request()
        request = {"certificateSigningRequest": csr}
        which, told = await self.ask(client, "certificates/create-from-csr", request)
        assert which == "accepted", told
        return key, told

    async def register(self, client, token, serial="1", template=None):
        topic = f"provisioning-templates/{template or self.name}/provision"
        given = {"Serial": serial} if serial else {}
        return await self.ask(
            client, topic, {"certificateOwnershipToken": token, "parameters": given}
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud():
    """A cloud that holds roles to their policies."""
    async with LocalCloud() as local, AsyncExitStack() as clients:
        yield Cloud(local, clients)


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(cloud, name):
    return await Fleet(cloud, name).made()


async def test_a_device_with_a_claim_gets_a_certificate_and_becomes_a_thing(fleet, cloud):
    iot = await cloud.client("iot")
    async with fleet.connected() as client:
        key, told = await fleet.certificate(client)
        assert sorted(told) == ["certificateId", "certificateOwnershipToken", "certificatePem"]
        number = told["certificateId"]
        before = await iot.describe_certificate(certificateId=number)
        assert before["certificateDescription"]["status"] == "PENDING_ACTIVATION"
        answer = await fleet.register(client, told["certificateOwnershipToken"])
    thing = f"{fleet.name}-1"
    assert answer == (
        "accepted", {"deviceConfiguration": {"url": "https://x/1"}, "thingName": thing}
    )  # fmt: skip
    after = (await iot.describe_certificate(certificateId=number))["certificateDescription"]
    assert after["status"] == "ACTIVE"
    made = await iot.describe_thing(thingName=thing)
    assert (made["thingTypeName"], made["attributes"]) == (fleet.name, {"serial": "1"})
    listed = await iot.list_things_in_thing_group(thingGroupName=fleet.name)
    assert listed["things"] == [thing]
    principals = (await iot.list_thing_principals(thingName=thing))["principals"]
    assert principals == [after["certificateArn"]]
    device = fleet.things.holding(thing, principals[0], number, key + told["certificatePem"])
    async with device.connected() as client:
        await client.publish("x", b"", qos=1)


async def test_keys_are_made_for_a_device_that_makes_none_and_connect_it_once_it_is_registered(
    fleet, cloud
):
    async with fleet.connected() as client:
        _, told = await fleet.ask(client, "certificates/create", {})
        pem = told["privateKey"] + told["certificatePem"]
        device = fleet.things.holding(f"{fleet.name}-1", "", told["certificateId"], pem)
        with pytest.raises((aiomqtt.MqttError, OSError)):
            async with device.connected(timeout=2):
                pass
        which, _ = await fleet.register(client, told["certificateOwnershipToken"])
        assert which == "accepted"
        # An answer that was lost is asked for again.
        which, _ = await fleet.register(client, told["certificateOwnershipToken"])
        assert which == "accepted"
    async with device.connected() as client:
        await client.publish("x", b"", qos=1)


async def test_what_cannot_be_done_is_rejected_in_awss_words(fleet, cloud, name, monkeypatch):
    iot = await cloud.client("iot")
    async with fleet.connected() as client:
        _, told = await fleet.certificate(client)
        token = told["certificateOwnershipToken"]

        async def rejected(status, code, words, answer):
            which, told = await answer
            assert which == "rejected"
            assert (told["statusCode"], told["errorCode"]) == (status, code), told
            assert words in told["errorMessage"]
            assert sorted(told) == ["errorCode", "errorMessage", "statusCode"]

        invalid = "InvalidCertificateOwnershipToken"
        await rejected(400, invalid, "cannot be empty", fleet.register(client, ""))
        await rejected(400, invalid, "is invalid", fleet.register(client, "A" + token[1:]))
        await rejected(400, invalid, "is invalid", fleet.register(client, "~"))
        await rejected(400, "InvalidParameters", "parameter Serial is missing",
                       fleet.register(client, token, serial=""))  # fmt: skip
        csr = {"certificateSigningRequest": "x"}
        await rejected(400, "InvalidCsr", "Invalid CSR",
                       fleet.ask(client, "certificates/create-from-csr", csr))  # fmt: skip
        await rejected(400, "InvalidPayload", "certificateSigningRequest is required",
                       fleet.ask(client, "certificates/create-from-csr", {}))  # fmt: skip
        await rejected(400, "InvalidPayload", "no JSON object",
                       fleet.ask(client, "certificates/create", []))  # fmt: skip
        await rejected(400, "NotServed", "CBOR is not served",
                       fleet.ask(client, "certificates/create", {}, "cbor"))  # fmt: skip
        await client.subscribe("$aws/provisioning-templates/none/provision/json/+", qos=1)
        await rejected(404, "ResourceNotFound", "none does not exist",
                       fleet.register(client, token, template="none"))  # fmt: skip
        await iot.update_provisioning_template(templateName=name, enabled=False)
        await rejected(400, "InvalidTemplate", "is not enabled", fleet.register(client, token))
        await iot.update_provisioning_template(templateName=name, enabled=True)
        now_s = provisioning.time.time()
        monkeypatch.setattr(provisioning.time, "time", lambda: now_s + 3601)
        await rejected(400, invalid, "has expired", fleet.register(client, token))
        monkeypatch.undo()
    told = await iot.describe_certificate(certificateId=told["certificateId"])
    assert told["certificateDescription"]["status"] == "PENDING_ACTIVATION"


@pytest.mark.parametrize("lacks", ["iot:AttachPolicy", "iot:CreateThing", "iot:UpdateCertificate"])
async def test_a_template_does_what_its_role_may_do_and_no_more(cloud, name, lacks):
    may = [{**one, "Action": [a for a in one["Action"] if a != lacks]} for one in MAY]
    fleet = await Fleet(cloud, name).made(may=may)
    iot = await cloud.client("iot")
    async with fleet.connected() as client:
        _, told = await fleet.certificate(client)
        which, answer = await fleet.register(client, told["certificateOwnershipToken"])
    assert (which, answer["errorCode"]) == ("rejected", "AccessDenied")
    assert lacks in answer["errorMessage"]
    status = await iot.describe_certificate(certificateId=told["certificateId"])
    assert status["certificateDescription"]["status"] == "PENDING_ACTIVATION"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, {"attributes": {"old": "1"}, "groups": ["old"]}),
        (
            {"AttributePayload": "MERGE", "ThingGroups": "MERGE"},
            {"attributes": {"old": "1", "new": "2"}, "groups": ["new", "old"]},
        ),
        (
            {"AttributePayload": "REPLACE", "ThingGroups": "REPLACE"},
            {"attributes": {"new": "2"}, "groups": ["new"]},
        ),
        ({"AttributePayload": "FAIL"}, None),
    ],
)
async def test_a_thing_that_is_there_is_changed_as_the_overrides_say(
    cloud, name, overrides, expected
):
    iot = await cloud.client("iot")
    for group in ("old", "new"):
        await iot.create_thing_group(thingGroupName=f"{name}-{group}")
    await iot.create_thing(thingName=name, attributePayload={"attributes": {"old": "1"}})
    await iot.add_thing_to_thing_group(thingGroupName=f"{name}-old", thingName=name)
    thing = {"ThingName": name, "AttributePayload": {"new": "2"}, "ThingGroups": [f"{name}-new"]}
    fleet = await Fleet(cloud, name).made(body_of(thing, overrides))
    async with fleet.connected() as client:
        _, told = await fleet.certificate(client)
        which, answer = await fleet.register(client, told["certificateOwnershipToken"])
    if expected is None:
        assert (which, answer["errorCode"]) == ("rejected", "ResourceConflicts")
        return
    assert which == "accepted", answer
    groups = (await iot.list_thing_groups_for_thing(thingName=name))["thingGroups"]
    assert (await iot.describe_thing(thingName=name))["attributes"] == expected["attributes"]
    assert sorted(g["groupName"].rpartition("-")[2] for g in groups) == expected["groups"]


async def test_a_policy_may_be_a_document_and_is_named_by_it(cloud, name):
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("Connect", "client/*")]})
    fleet = await Fleet(cloud, name).made(body_of(policy={"PolicyDocument": document}))
    iot = await cloud.client("iot")
    async with fleet.connected() as client:
        for _ in range(2):
            _, told = await fleet.certificate(client)
            which, answer = await fleet.register(client, told["certificateOwnershipToken"])
            assert (which, answer["thingName"]) == ("accepted", "")
    arn = f"{ARN}:cert/{told['certificateId']}"
    (attached,) = (await iot.list_attached_policies(target=arn))["policies"]
    assert len(attached["policyName"]) == 40


async def test_answers_reach_the_device_that_asked_and_nobody_else(fleet):
    listener = await fleet.things.device(f"{fleet.name}-b", CLAIM, thing=False)
    async with listener.connected() as other, fleet.connected() as client:
        await other.subscribe("$aws/certificates/create-from-csr/json/+", qos=1)
        await fleet.certificate(client)
        await other.subscribe("$aws/certificates/create/json/+", qos=1)
        await other.publish("$aws/certificates/create/json", b"", qos=1)
        async with asyncio.timeout(20):
            assert str((await anext(other.messages)).topic).startswith("$aws/certificates/create/")


async def test_certificates_that_nobody_activated_are_deleted_when_their_tokens_end(
    fleet, cloud, monkeypatch
):
    iot = await cloud.client("iot")
    async with fleet.connected() as client:
        _, told = await fleet.certificate(client)
    number = told["certificateId"]
    service = cloud.service("iot")
    await service._forget_pending()
    await iot.describe_certificate(certificateId=number)
    monkeypatch.setattr("localcloud.iot.service.TOKEN_S", -1)
    await service._forget_pending()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await iot.describe_certificate(certificateId=number)


async def test_templates_are_kept_with_their_versions_and_tags(cloud, name):
    iot = await cloud.client("iot")
    role = "arn:aws:iam::123456789012:role/r"
    body = body_of({"ThingName": {"Ref": "Serial"}})
    made = await iot.create_provisioning_template(
        templateName=name, provisioningRoleArn=role, templateBody=body, description="d",
        tags=[{"Key": "a", "Value": "1"}],
    )  # fmt: skip
    arn = f"{ARN}:provisioningtemplate/{name}"
    assert (made["templateArn"], made["defaultVersionId"]) == (arn, 1)
    tags = await iot.list_tags_for_resource(resourceArn=arn)
    assert tags["tags"] == [{"Key": "a", "Value": "1"}]
    with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
        await iot.create_provisioning_template(
            templateName=name, provisioningRoleArn=role, templateBody=body
        )
    second = await iot.create_provisioning_template_version(
        templateName=name, templateBody=body_of(), setAsDefault=True
    )
    assert (second["versionId"], second["isDefaultVersion"]) == (2, True)
    told = await iot.describe_provisioning_template(templateName=name)
    assert (told["defaultVersionId"], told["enabled"], told["type"]) == (
        2, False, "FLEET_PROVISIONING"
    )  # fmt: skip
    assert json.loads(told["templateBody"]) == json.loads(body_of())
    first = await iot.describe_provisioning_template_version(templateName=name, versionId=1)
    assert json.loads(first["templateBody"]) == json.loads(body)
    listed = await iot.list_provisioning_template_versions(templateName=name, maxResults=1)
    assert [one["versionId"] for one in listed["versions"]] == [1]
    more = await iot.list_provisioning_template_versions(
        templateName=name, nextToken=listed["nextToken"]
    )
    assert [one["versionId"] for one in more["versions"]] == [2]
    with pytest.raises(ClientError, match="DeleteConflictException"):
        await iot.delete_provisioning_template_version(templateName=name, versionId=2)
    await iot.delete_provisioning_template_version(templateName=name, versionId=1)
    names = (await iot.list_provisioning_templates())["templates"]
    assert name in {one["templateName"] for one in names}
    await iot.delete_provisioning_template(templateName=name)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await iot.describe_provisioning_template(templateName=name)
    assert (await iot.list_tags_for_resource(resourceArn=arn))["tags"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no", "is not JSON"),
        ("[]", "is an object"),
        (json.dumps({"Resources": {}}), "one certificate"),
        (body_of({}), "ThingName is required"),
        (body_of({"ThingName": "a", "BillingGroup": "b"}), "BillingGroup is not served"),
        (body_of({"ThingName": "a"}, {"ThingTypeName": "MERGE"}), "cannot be ThingTypeName: MERGE"),
        (body_of(policy={"PolicyName": "a", "PolicyDocument": "{}"}), "or PolicyDocument"),
        (body_of(Extra={}), "there is no Extra"),
    ],
)
async def test_a_template_that_could_not_be_used_is_refused(body, words):
    with pytest.raises(TemplateError, match=words):
        Template(body)


async def test_functions_of_a_template_are_worked_out():
    thing = {
        "ThingName": {"Fn::Select": ["1", {"Fn::Split": [",", {"Ref": "Serial"}]}]},
        "AttributePayload": {"url": {"Fn::FindInMap": ["Sites", {"Ref": "Site"}, "url"]}},
    }
    body = json.loads(body_of(thing, Mappings={"Sites": {"a": {"url": "u"}}}))
    body["Parameters"]["Site"] = {"Type": "String", "Default": "a"}
    template = Template(json.dumps(body))
    given = {"AWS::IoT::Certificate::Id": "c", "Serial": "x,y"}
    plan = template.plan(given)
    assert (plan.thing_name, plan.attributes, plan.status) == ("y", {"url": "u"}, "ACTIVE")
    with pytest.raises(TemplateError, match=r"thing\.ThingName: Fn::Select cannot be worked out"):
        template.plan({**given, "Serial": "x"})


async def test_hooks_and_other_types_are_refused_by_name(cloud, name):
    iot = await cloud.client("iot")
    asked = {
        "templateName": name, "provisioningRoleArn": "arn:aws:iam::123456789012:role/r",
        "templateBody": body_of(),
    }  # fmt: skip
    with pytest.raises(ClientError, match="JITP are not served"):
        await iot.create_provisioning_template(**asked, type="JITP")
    hook = {"targetArn": "arn:aws:lambda:us-east-1:123456789012:function:f"}
    with pytest.raises(ClientError, match="hooks are not served"):
        await iot.create_provisioning_template(**asked, preProvisioningHook=hook)


async def test_a_device_goes_on_with_its_certificate_after_the_cloud_was_started_again(tmp_path):
    async with LocalCloud(data=tmp_path / "d") as local, AsyncExitStack() as clients:
        before = await Fleet(Cloud(local, clients), "kept").made()
        async with before.connected() as client:
            key, told = await before.certificate(client)
    async with LocalCloud(data=tmp_path / "d") as local, AsyncExitStack() as clients:
        after = Fleet(Cloud(local, clients), "kept")
        after.claim = before.claim
        after.claim.port = after.things.service.port
        async with after.connected() as client:
            answer = await after.register(client, told["certificateOwnershipToken"])
        assert answer[0] == "accepted", answer
    async with LocalCloud(data=tmp_path / "d") as local, AsyncExitStack() as clients:
        things = Things(Cloud(local, clients))
        pem = key + told["certificatePem"]
        device = things.holding("kept-1", "", told["certificateId"], pem)
        async with device.connected() as client:
            await client.publish("x", b"", qos=1)

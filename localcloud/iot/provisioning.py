"""Provisioning by claim: devices get certificates and things over MQTT.

Follows "Device provisioning MQTT API" of the AWS IoT Core developer guide, in JSON. What a device asks
for is done by IoT Core's own API, as the template's role, so that IAM decides about it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from localcloud import cbor
from localcloud.http import OWN_FAULT, AwsError
from localcloud.iot.packets import Message
from localcloud.iot.template import CERTIFICATE_ID, TemplateError
from localcloud.iot.topics import PROVISIONING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.iot.template import Plan
    from localcloud.iot.templates import ProvisioningTemplates
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

# How long a device has from its certificate to RegisterThing.
TOKEN_S = 3600
MAX_AT_ONCE = 32
_DIGEST = 32


class RejectedError(Exception):
    """What a device is told instead of what it asked for."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Provisioning:
    """Answers what devices publish on the topics of provisioning.

    Args:
        context: The cloud.
        templates: The account's templates.
        issue: Makes a certificate that waits for its activation, of a signing request or, where that
            is None, of keys of its own; returns id, PEM and private key.
    """

    def __init__(
        self,
        context: CloudContext,
        templates: ProvisioningTemplates,
        issue: Callable[[str | None], Awaitable[tuple[str, str, str]]],
    ) -> None:
        self._context = context
        self._templates = templates
        self._issue = issue
        folder = context.folder
        self._secret = _secret(folder.path / "iot-ownership.key" if folder else None)
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self.provisioned = 0
        self.rejected = 0

    def take(self, message: Message, reply: Callable[[Message], None]) -> None:
        """Takes a message that is on a topic of provisioning; others are nothing to it.

        Args:
            message: What a device published.
            reply: Sends to that device, where it listens.
        """
        found = PROVISIONING.match(message.topic)
        if found is None:
            return
        kind, template, form = found.groups()
        task = asyncio.create_task(self._answer(message, kind, template, form, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ends what is being answered."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(
        self, message: Message, kind: str | None, template: str, form: str,
        reply: Callable[[Message], None],
    ) -> None:  # fmt: skip
        try:
            asked = _object(message.payload, form)
            async with self._room:
                if kind is not None:
                    told = await self._certificate(kind, asked)
                else:
                    told = await self._register(template, asked)
                    self.provisioned += 1
            which = "accepted"
        except RejectedError as error:
            which = "rejected"
            self.rejected += 1
            told = {
                "statusCode": error.status,
                "errorCode": error.code,
                "errorMessage": error.message,
            }
        except Exception:
            log.exception("%s failed", message.topic)
            which = "rejected"
            self.rejected += 1
            told = {"statusCode": 500, "errorCode": "InternalFailure",
                    "errorMessage": OWN_FAULT}  # fmt: skip
        payload = cbor.dumps(told) if form == "cbor" else orjson.dumps(told)
        reply(Message(f"{message.topic}/{which}", payload, 1))

    async def _certificate(self, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
        """CreateCertificateFromCsr and CreateKeysAndCertificate."""
        request = None
        if kind == "create-from-csr":
            request = asked.get("certificateSigningRequest")
            if not isinstance(request, str) or not request:
                raise RejectedError(400, "InvalidPayload", "certificateSigningRequest is required")
        try:
            number, pem, private = await self._issue(request)
        except AwsError as error:
            raise RejectedError(error.status, "InvalidCsr", error.message) from error
        told = {
            "certificateId": number,
            "certificatePem": pem,
            "certificateOwnershipToken": self._token(number),
        }
        return {**told, "privateKey": private} if private else told

    async def _register(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """RegisterThing."""
        number = self._owned(asked.get("certificateOwnershipToken"))
        given = asked.get("parameters") or {}
        if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
            raise RejectedError(400, "InvalidParameters", "parameters are strings by name")
        try:
            stored, template = self._templates.enabled(name)
            plan = template.plan({**given, CERTIFICATE_ID: number})
        except AwsError as error:
            code = "ResourceNotFound" if error.status == 404 else "InvalidTemplate"  # noqa: PLR2004
            raise RejectedError(error.status, code, error.message) from error
        except TemplateError as error:
            raise RejectedError(400, "InvalidParameters", str(error)) from error
        access = self._context.access
        if not access.may_assume(stored.role_arn, "iot.amazonaws.com", stored.arn):
            told = f"IoT Core may not assume {stored.role_arn}"
            raise RejectedError(403, "AccessDenied", told)
        iot = await self._context.client("iot")
        try:
            with access.acting(access.role(stored.role_arn, "provisioning")):
                await self._provision(iot, number, plan)
        except ClientError as error:
            found = error.response["Error"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = found["Code"].removesuffix("Exception")
            raise RejectedError(status, code, found["Message"]) from error
        except BotoCoreError as error:
            raise RejectedError(500, "InternalFailure", str(error)) from error
        return {"deviceConfiguration": plan.configuration, "thingName": plan.thing_name}

    async def _provision(self, iot: Any, number: str, plan: Plan) -> None:
        told = (await iot.describe_certificate(certificateId=number))["certificateDescription"]
        # The same token may come again, after an answer that got lost.
        if told["status"] == "REVOKED":
            raise RejectedError(400, "InvalidCertificate", "the certificate is revoked")
        arn = told["certificateArn"]
        if plan.thing_name:
            await _put_thing(iot, plan)
            await iot.attach_thing_principal(thingName=plan.thing_name, principal=arn)
        for name, document in plan.policies:
            await iot.attach_policy(policyName=name or await _put_policy(iot, document), target=arn)
        # Last: a device whose certificate is active has all that it was to have.
        if told["status"] != plan.status:
            await iot.update_certificate(certificateId=number, newStatus=plan.status)

    # Tokens tell by themselves whose they are and until when, so that they outlive a restart.

    def _token(self, number: str) -> str:
        until = int(time.time()) + TOKEN_S
        payload = bytes.fromhex(number) + until.to_bytes(8)
        return base64.urlsafe_b64encode(payload + self._proof(payload)).decode()

    def _owned(self, token: Any) -> str:
        """The certificate that a token is about."""
        invalid = "InvalidCertificateOwnershipToken"
        if not token:
            raise RejectedError(400, invalid, "Certificate ownership token cannot be empty.")
        try:
            told = base64.b64decode(token, altchars=b"-_", validate=True)
        except (TypeError, ValueError) as error:
            raise RejectedError(400, invalid, "Certificate ownership token is invalid.") from error
        payload, proof = told[:-_DIGEST], told[-_DIGEST:]
        if not hmac.compare_digest(proof, self._proof(payload)):
            raise RejectedError(400, invalid, "Certificate ownership token is invalid.")
        if time.time() > int.from_bytes(payload[-8:]):
            raise RejectedError(400, invalid, "Certificate ownership token has expired.")
        return payload[:-8].hex()

    def _proof(self, payload: bytes) -> bytes:
        return hmac.digest(self._secret, payload, hashlib.sha256)


async def _put_thing(iot: Any, plan: Plan) -> None:
    """Makes the thing; one that is there is changed as the template's overrides say."""
    name = plan.thing_name
    try:
        has = await iot.describe_thing(thingName=name)
    except iot.exceptions.ResourceNotFoundException:
        more = {"thingTypeName": plan.thing_type} if plan.thing_type else {}
        await iot.create_thing(
            thingName=name, attributePayload={"attributes": plan.attributes}, **more
        )
        await _join(iot, name, plan.groups)
        return
    wanted = plan.overrides
    changed: dict[str, Any] = {}
    if _differs(wanted, "ThingTypeName", has.get("thingTypeName", ""), plan.thing_type):
        changed["thingTypeName"] = plan.thing_type
    if _differs(wanted, "AttributePayload", has.get("attributes", {}), plan.attributes):
        merge = wanted["AttributePayload"] == "MERGE"
        changed["attributePayload"] = {"attributes": plan.attributes, "merge": merge}
    if changed:
        await iot.update_thing(thingName=name, **changed)
    if "ThingGroups" not in wanted:
        return
    listed = (await iot.list_thing_groups_for_thing(thingName=name))["thingGroups"]
    groups = {one["groupName"] for one in listed}
    if _differs(wanted, "ThingGroups", groups, set(plan.groups)):
        if wanted["ThingGroups"] == "REPLACE":
            for group in groups - set(plan.groups):
                await iot.remove_thing_from_thing_group(thingGroupName=group, thingName=name)
        await _join(iot, name, plan.groups)


async def _join(iot: Any, name: str, groups: tuple[str, ...]) -> None:
    for group in groups:
        await iot.add_thing_to_thing_group(thingGroupName=group, thingName=name)


def _differs(wanted: dict[str, str], name: str, has: Any, asked: Any) -> bool:
    """Whether a property of a thing is to be changed."""
    what = wanted.get(name, "DO_NOTHING")
    if what == "DO_NOTHING" or has == asked:
        return False
    if what == "FAIL":
        raise RejectedError(409, "ResourceConflicts", f"the thing has another {name} already")
    return True


async def _put_policy(iot: Any, document: str) -> str:
    """Makes the policy of a document, named by its digest; its name."""
    plain = json.dumps(json.loads(document), sort_keys=True) if document else document
    name = hashlib.sha1(plain.encode(), usedforsecurity=False).hexdigest().upper()
    try:
        await iot.create_policy(policyName=name, policyDocument=document)
    except iot.exceptions.ResourceAlreadyExistsException:
        log.debug("the policy %s is there already", name)
    return name


def _object(payload: bytes, form: str) -> dict[str, Any]:
    if form == "cbor":
        raise RejectedError(400, "NotServed", "CBOR is not served locally: use .../json")
    try:
        told = orjson.loads(payload or b"{}")
    except ValueError as error:
        raise RejectedError(400, "InvalidPayload", f"the payload is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise RejectedError(400, "InvalidPayload", "the payload is no JSON object")
    return told


def _secret(path: Any) -> bytes:
    """What tokens are signed with: a new one, or that of the cloud's folder."""
    if path is None:
        return secrets.token_bytes(_DIGEST)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(_DIGEST))
    return bytes(path.read_bytes())

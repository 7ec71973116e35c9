"""IoT Core: its broker and rules, and the part of its control plane that they depend on.

moto keeps the registry; certificates are issued here, by an authority that devices can be held to.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import orjson

from localcloud.durable import moment
from localcloud.http import AwsError, Request, Response, json_response
from localcloud.iot.authority import Authority
from localcloud.iot.broker import Broker
from localcloud.iot.calls import RegistryCalls
from localcloud.iot.connection import MAX_PAYLOAD
from localcloud.iot.devices import Registry
from localcloud.iot.listener import Listener
from localcloud.iot.meter import LEVELS, Meter
from localcloud.iot.packets import Message
from localcloud.iot.provisioning import TOKEN_S, Provisioning
from localcloud.iot.rules import RulesEngine
from localcloud.iot.templates import ProvisioningTemplates
from localcloud.iot.topics import topic_fault
from localcloud.naming import route_of
from localcloud.validation import rest_parameters

if TYPE_CHECKING:
    import socket

    from localcloud.front import Fallback
    from localcloud.seams import CloudContext, LogSink, StreamWriter

log = logging.getLogger(__name__)

TICK_S = 1.0
SWEEP_TICKS = 60
# A certificate that a device asked for over MQTT, where it is kept like a request.
_PENDING = "IssuePendingCertificate"
JSON = "application/json"
_GOOD = 300
# What changes nothing that anybody is allowed, and no rule.
_NEUTRAL = {"Publish", "CreateCertificateFromCsr", "CreateKeysAndCertificate"}
_ENDPOINTS = {"iot:Data", "iot:Data-ATS"}


class IotService:
    """IoT Core.

    Args:
        context: The cloud.
        moto: Who keeps the registry.
        streams: Takes records of rules.
        logs: Takes IoT Core's own lines.
        listening: Where devices connect to.
    """

    signing_names = ("iot", "iotdata")

    def __init__(
        self, context: CloudContext, moto: Fallback, streams: StreamWriter, logs: LogSink,
        listening: socket.socket,
    ) -> None:  # fmt: skip
        _hash_certificates()
        self._context = context
        self._moto = moto
        self._meter = Meter(context.metrics, logs, context.account_id)
        folder = context.folder
        self._authority = Authority(context.host, folder.path if folder is not None else None)
        self._registry = Registry(context.account_id, context.region)
        self._calls = RegistryCalls(self._backend)
        self._rules = RulesEngine(context, streams, self._meter)
        self._broker = Broker(self._registry, self._rules, self._meter)
        self._rules.deliver, self._rules.caught_up = self._broker.deliver, self._broker.go_on
        self._listener = Listener(
            listening, self._authority, self._registry, self._broker, self._meter
        )
        self.port: int = listening.getsockname()[1]
        self._logging: dict[str, Any] = {
            "roleArn": "", "defaultLogLevel": "DISABLED", "disableAllLogs": False,
        }  # fmt: skip
        self._templates = ProvisioningTemplates(
            f"arn:aws:iot:{context.region}:{context.account_id}:"
        )
        self._provisioning = Provisioning(context, self._templates, self._issue)
        self._meter.refusal = self._log_refusal
        self._broker.provision = self._provisioning.take
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._own: dict[str, Any] = {
            "CreateCertificateFromCsr": self._certificate_of_csr,
            "CreateKeysAndCertificate": self._keys_and_certificate,
            "CreateTopicRule": self._rule,
            "ReplaceTopicRule": self._rule,
            "DescribeEndpoint": self._endpoint,
            "GetV2LoggingOptions": self._get_logging,
            "SetV2LoggingOptions": self._set_logging,
            "Publish": self._publish,
        }

    # Service

    async def restore(self) -> None:
        """Takes the rules and the trusted certificates that requests made again."""
        self._changed()
        for certificate in list(self._backend().certificates.values()):
            self._listener.trust(certificate.certificate_pem)

    async def start(self) -> None:
        """Opens the port."""
        await self._listener.start()
        self._task = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        """Ends connections and rules."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._provisioning.stop()
        await self._broker.close()
        await self._listener.stop()
        await self._rules.stop()

    def operations(self) -> frozenset[str]:
        """See `Service`; moto answers the others."""
        own = frozenset(self._own) | self._calls.operations() | self._templates.operations()
        return own - {"Publish"}

    def status(self) -> dict[str, Any]:
        """The broker, the rules, and what is unsupported."""
        return {
            "endpoint": self.endpoint,
            **self._broker.status(),
            **self._rules.status(),
            "provisioning": {
                "provisioned": self._provisioning.provisioned,
                "rejected": self._provisioning.rejected,
            },
            "counts": dict(self._meter.totals),
            "unsupported": [
                "MQTT over WebSocket, topic aliases, shared subscriptions, QoS 2",
                "device shadows over MQTT, jobs, fleet indexing",
                "provisioning in CBOR, pre-provisioning hooks, templates of type JITP",
                "rule actions other than kinesis, sqs, sns and republish",
            ],
        }

    @property
    def endpoint(self) -> str:
        """Where devices connect to."""
        return f"{self._context.host}:{self.port}"

    def page(self) -> dict[str, Any]:
        """What a client needs to connect: shown under `/_fleetcast/iot`."""
        return {"endpoint": self.endpoint, "ca_pem": self._authority.ca_pem}

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        found = route_of(request)
        operation, variables = found if found is not None else ("", {})
        own = self._own.get(operation)
        if operation in self._calls.operations():
            return await self._call(request, operation, variables)
        if operation in self._templates.operations():
            return await self._template_call(request, operation, variables)
        if request.operation == _PENDING and not self._context.restored.is_set():
            self._pending(request.json()["csr"])
            return json_response({}, content_type=JSON)
        if own is not None:
            response: Response = await own(request, variables)
        elif request.service == "iotdata":
            return None
        else:
            response = await self._ask_moto(request)
        if request.method != "GET" and response.status < _GOOD and operation not in _NEUTRAL:
            self._trust(operation, request)
            self._changed()
        return response

    async def _call(self, request: Request, operation: str, path: dict[str, str]) -> Response:
        """Answers a call for one device."""
        asked = rest_parameters(request, operation, path, "InvalidRequestException")
        async with self._turn:
            told = self._calls.answer(operation, asked)
        self._registry.follow(operation, asked)
        if operation in {"UpdateCertificate", "DeleteCertificate"}:
            self._broker.check_certificates()
        return json_response(told, content_type=JSON)

    async def _template_call(
        self, request: Request, operation: str, path: dict[str, str]
    ) -> Response:
        asked = rest_parameters(request, operation, path, "InvalidRequestException")
        told = self._templates.answer(operation, asked)
        if operation in {"CreateProvisioningTemplate", "DeleteProvisioningTemplate"}:
            await self._retag(request, self._templates.arn(asked["templateName"]), asked)
        return json_response(told, content_type=JSON)

    async def _retag(self, request: Request, arn: str, asked: dict[str, Any]) -> None:
        """Lets whoever keeps tags know those that a resource begins with, and no others."""

        async def ask(method: str, path: str, query: str, body: dict[str, Any]) -> Any:
            plain = Request(
                method, path, query, {"content-type": JSON}, orjson.dumps(body), "iot", "",
                request.region,
            )  # fmt: skip
            return orjson.loads((await self._moto.handle(plain)).body)

        before = (await ask("GET", "/tags", urlencode({"resourceArn": arn}), {}))["tags"]
        if before:
            keys = [tag["Key"] for tag in before]
            await ask("POST", "/untag", "", {"resourceArn": arn, "tagKeys": keys})
        if asked.get("tags"):
            await ask("POST", "/tags", "", {"resourceArn": arn, "tags": asked["tags"]})

    async def _ask_moto(self, request: Request) -> Response:
        """One after the other: moto goes through its registry while other threads change it."""
        async with self._turn:
            return await self._moto.handle(request)

    # Operations

    async def _certificate_of_csr(self, request: Request, _: dict[str, str]) -> Response:
        pem = self._authority.sign(str(request.json().get("certificateSigningRequest", "")))
        return await self._register(request, pem, {})

    async def _keys_and_certificate(self, request: Request, _: dict[str, str]) -> Response:
        pem, public, private = self._authority.key_and_certificate()
        pair = {"PublicKey": public, "PrivateKey": private}
        return await self._register(request, pem, {"keyPair": pair})

    async def _register(self, request: Request, pem: str, more: dict[str, Any]) -> Response:
        """Keeps a certificate that was issued here."""
        active = parse_qs(request.query).get("setAsActive", ["false"])[0] == "true"
        async with self._turn:
            made = self._calls.register(pem, "ACTIVE" if active else "INACTIVE")
        return json_response({**made, **more}, content_type=JSON)

    async def _issue(self, csr: str | None) -> tuple[str, str, str]:
        """(id, PEM, private key) of a certificate that waits for its activation.

        It is kept like a request, as no request made it.
        """
        made = moment.Moment()
        async with self._turn:
            with moment.during(made):
                issued = self._pending(csr)
        if self._context.requests is not None:
            self._context.requests.note("iot", _PENDING, {"csr": csr}, made)
        return issued

    def _pending(self, csr: str | None) -> tuple[str, str, str]:
        private = ""
        if csr is not None:
            pem = self._authority.sign(csr)
        else:
            pem, _, private = self._authority.key_and_certificate()
        kept = self._calls.register(pem, "PENDING_ACTIVATION")
        return kept["certificateId"], pem, private

    async def _forget_pending(self) -> None:
        """Deletes certificates that were not activated as long as their tokens were good."""
        before = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(seconds=TOKEN_S)
        async with self._turn:
            certificates = self._backend().certificates
            for number, certificate in list(certificates.items()):
                waits = certificate.status == "PENDING_ACTIVATION"
                if waits and certificate.creation_date < before:
                    del certificates[number]

    async def _rule(self, request: Request, variables: dict[str, str]) -> Response:
        """Refuses a rule that could not run, before it is kept."""
        name, context = variables["ruleName"], self._context
        arn = f"arn:aws:iot:{context.region}:{context.account_id}:rule/{name}"
        payload = request.json()
        if not isinstance(payload.get("sql"), str):
            raise AwsError("InvalidRequestException", "topicRulePayload.sql is required")
        self._rules.compiled(name, arn, payload)
        return await self._ask_moto(request)

    async def _endpoint(self, request: Request, _: dict[str, str]) -> Response:
        kind = parse_qs(request.query).get("endpointType", ["iot:Data"])[0]
        if kind not in _ENDPOINTS:
            return await self._ask_moto(request)
        return json_response({"endpointAddress": self.endpoint}, content_type=JSON)

    async def _get_logging(self, _request: Request, _: dict[str, str]) -> Response:
        return json_response(self._logging, content_type=JSON)

    async def _set_logging(self, request: Request, _: dict[str, str]) -> Response:
        asked = request.json()
        level = asked.get("defaultLogLevel", self._logging["defaultLogLevel"])
        if level not in LEVELS:
            raise AwsError("InvalidRequestException", f"defaultLogLevel is one of {LEVELS}")
        self._logging.update({name: asked[name] for name in self._logging if name in asked})
        off = self._logging["disableAllLogs"]
        self._meter.level = "DISABLED" if off else self._logging["defaultLogLevel"]
        return json_response({}, content_type=JSON)

    def _log_refusal(self, group: str, stream: str) -> str | None:
        """Why the role that logging was given may not write there; None where it may."""
        access, arn = self._context.access, self._logging["roleArn"]
        if not access.may_assume(arn, "iot.amazonaws.com"):
            return f"IoT Core may not assume {arn or 'the role that is not set'}"
        return access.log_refusal(access.role(arn, "logging"), group, stream)

    async def _publish(self, request: Request, variables: dict[str, str]) -> Response:
        """Publish of the data plane over HTTP; IAM has decided about it."""
        query = parse_qs(request.query)
        topic, qos = variables["topic"], query.get("qos", ["0"])[0]
        fault = topic_fault(topic)
        if fault is None and len(request.body) > MAX_PAYLOAD:
            fault = f"a payload has at most {MAX_PAYLOAD} bytes"
        if fault is None and qos not in {"0", "1"}:
            fault = "qos is 0 or 1"
        if fault is not None:
            self._meter.broker("PublishIn.ClientError", protocol="HTTP")
            raise AwsError("InvalidRequestException", fault)
        retain = query.get("retain", ["false"])[0] == "true"
        self._meter.broker("PublishIn.Success", protocol="HTTP")
        self._broker.deliver(Message(topic, request.body, int(qos), retain), "n/a", "n/a")
        return json_response({}, content_type=JSON)

    # What follows from requests

    def _trust(self, operation: str, request: Request) -> None:
        if operation in {"RegisterCertificate", "RegisterCertificateWithoutCA"}:
            self._listener.trust(str(request.json().get("certificatePem", "")))
        elif operation == "RegisterCACertificate":
            self._listener.trust(str(request.json().get("caCertificate", "")))

    def _changed(self) -> None:
        self._registry.changed()
        self._rules.load(dict(self._backend().rules))
        self._broker.check_certificates()

    def _backend(self) -> Any:
        from moto.iot.models import iot_backends  # noqa: PLC0415 - slow

        return iot_backends[self._context.account_id][self._context.region]

    async def _tend(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            if ticks % SWEEP_TICKS == 0:
                await self._forget_pending()
            self._broker.tend()
            self._broker.go_on()
            await self._meter.publish()


def _hash_certificates() -> None:
    """Lets moto name certificates by their bytes, as AWS does, not by their text."""
    from moto.core.config import default_user_config  # noqa: PLC0415 - slow

    default_user_config["iot"] = {"use_valid_cert": True}

"""Devices that get their certificates by a claim, over MQTT, as they do in the field.

All devices of a production batch carry the same claim certificate. With it they may ask IoT Core for a
certificate of their own, and tell its provisioning template who they are; see "Provisioning devices
that don't have device certificates" of the AWS IoT Core developer guide.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from typing import TYPE_CHECKING, Any

import aiomqtt

from fleetcast.errors import TargetError
from simulator.transports.mqttbroker import authority, endpoint, tls_with
from simulator.transports.mqttclient import MqttClient
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fleetcast.target import Target
    from simulator.identities import Identities

CLAIM = "claim"
ANSWER_S = 60.0
CONNECT_S = 20.0
# IoT Core takes about ten of each request a second on AWS, and says so.
ATTEMPTS = 10
BACKOFF_S = (1.0, 4.0)
TOO_MANY = 429
CREATE = "$aws/certificates/create-from-csr/json"
ACTIVE = "ACTIVE"


class RejectedError(TargetError):
    """IoT Core rejected what a device asked for."""


class Claims:
    """Asks with an environment's claim certificate.

    Args:
        target: Where.
        identities: Where the claim's key and certificate are kept.
    """

    def __init__(self, target: Target, identities: Identities) -> None:
        self._target = target
        self._identities = identities
        self._names = Names(identities.environment)
        self._register = f"$aws/provisioning-templates/{self._names.template}/provision/json"
        self._broker: tuple[str, int, Any] | None = None

    async def ready(self, iot: Any, statuses: dict[str, str], made: tuple[str, str]) -> None:
        """Sees to it that there is a claim certificate which IoT Core takes.

        Args:
            iot: A client of IoT Core's API.
            statuses: Certificate id to status.
            made: A private key and a signing request, for a new one.
        """
        if statuses.get(self._identities.certificate_id(CLAIM) or "") != ACTIVE:
            key_pem, csr = made
            told = await iot.create_certificate_from_csr(
                certificateSigningRequest=csr, setAsActive=True
            )
            await iot.attach_policy(policyName=self._names(CLAIM), target=told["certificateArn"])
            self._identities.save(CLAIM, key_pem, told["certificatePem"])
        tls = tls_with(self._identities.path(CLAIM), await authority(self._target))
        self._broker = (*await endpoint(self._target), tls)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Callable[[str, str, str], Awaitable[str]]]:
        """A connection with the claim; gives a call that provisions one device.

        The call takes device, the thing that it is to become and a signing request, and returns the
        certificate, PEM.

        Raises:
            TargetError: there is no connection, or it ended.
        """
        if self._broker is None:
            raise ValueError("a claim is made ready first")
        host, port, tls = self._broker
        # Under a name of its own: a connection takes over another of the same name.
        name = self._names(f"{CLAIM}-{uuid.uuid4().hex[:12]}")
        client = MqttClient(host, port, identifier=name, tls_context=tls, timeout=CONNECT_S)
        try:
            async with client:
                topics = [f"{t}/{w}" for t in (CREATE, self._register) for w in _ANSWERS]
                await client.subscribe([(topic, 1) for topic in topics])
                yield lambda device, thing, csr: self._provision(client, device, thing, csr)
        except aiomqtt.MqttError as error:
            raise TargetError(f"the connection with the claim certificate: {error}") from error
        finally:
            client.discard()

    async def _provision(self, client: MqttClient, device: str, thing: str, csr: str) -> str:
        made = await self._ask(client, device, CREATE, {"certificateSigningRequest": csr})
        token = made["certificateOwnershipToken"]
        asked = {"certificateOwnershipToken": token, "parameters": {"Device": device}}
        told = await self._ask(client, device, self._register, asked)
        if told.get("thingName") != thing:
            raise RejectedError(
                f"{device} became the thing {told.get('thingName')!r}, not {thing}: the template "
                f"{self._names.template} is another's; deploy again"
            )
        return str(made["certificatePem"])

    async def _ask(
        self, client: MqttClient, device: str, topic: str, asked: dict[str, Any]
    ) -> dict[str, Any]:
        for _ in range(ATTEMPTS):
            await client.publish(topic, json.dumps(asked), qos=1)
            try:
                async with asyncio.timeout(ANSWER_S):
                    answer = await anext(client.messages)
            except TimeoutError as error:
                raise RejectedError(f"{device}: no answer within {ANSWER_S:.0f} s") from error
            told: dict[str, Any] = json.loads(bytes(answer.payload))
            if str(answer.topic).endswith("/accepted"):
                return told
            if told.get("statusCode") != TOO_MANY:
                break
            await asyncio.sleep(random.uniform(*BACKOFF_S))  # noqa: S311 - jitter
        raise RejectedError(
            f"IoT Core rejected {device}: {told.get('errorCode')}: {told.get('errorMessage')}"
        )


_ANSWERS = ("accepted", "rejected")

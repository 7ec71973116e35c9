"""Devices for tests: certificates, policies and connections of the local IoT Core."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiomqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALL = [{"Effect": "Allow", "Action": ["iot:*"], "Resource": ["*"]}]
ARN = "arn:aws:iot:us-east-1:123456789012"


def allow(action: str, *resources: str) -> dict[str, Any]:
    return {
        "Effect": "Allow", "Action": [f"iot:{action}"], "Resource": [f"{ARN}:{r}" for r in resources]
    }  # fmt: skip


def context_of(ca_pem: str, pem: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_pem)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem.encode())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def self_made(issuer_key=None, issuer=None, *, start, end) -> tuple[str, str]:
    """(certificate, key and certificate), signed by itself or by somebody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made in a test")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(issuer or name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(end)
        .sign(issuer_key or key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return pem, key_pem(key) + pem


def signing_request() -> tuple[str, str]:
    """(key, request)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return key_pem(key), csr.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Device:
    """A thing with its certificate."""

    name: str
    arn: str
    certificate_id: str
    tls: ssl.SSLContext
    host: str
    port: int

    @contextlib.asynccontextmanager
    async def connected(self, **more: Any) -> AsyncIterator[aiomqtt.Client]:
        settings = {"identifier": self.name, "timeout": 20, **more}
        async with aiomqtt.Client(self.host, self.port, tls_context=self.tls, **settings) as client:
            yield client

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port, ssl=self.tls)


class Things:
    """Makes devices of one cloud."""

    def __init__(self, cloud: Any) -> None:
        self.cloud = cloud
        self.service = cloud.service("iot")
        self.ca_pem: str = self.service.page()["ca_pem"]
        self._made = 0

    async def policy(self, name: str, statements: list[dict[str, Any]]) -> None:
        iot = await self.cloud.client("iot")
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        await iot.create_policy(policyName=name, policyDocument=document)

    async def device(
        self, name: str, statements: list[dict[str, Any]] | None = None, *, thing: bool = True
    ) -> Device:
        iot = await self.cloud.client("iot")
        key, csr = signing_request()
        made = await iot.create_certificate_from_csr(
            certificateSigningRequest=csr, setAsActive=True
        )
        arn = made["certificateArn"]
        if thing:
            await iot.create_thing(thingName=name)
            await iot.attach_thing_principal(thingName=name, principal=arn)
        self._made += 1
        policy = f"p-{name}-{self._made}"
        await self.policy(policy, ALL if statements is None else statements)
        await iot.attach_policy(policyName=policy, target=arn)
        return self.holding(name, arn, made["certificateId"], key + made["certificatePem"])

    def holding(self, name: str, arn: str, certificate_id: str, pem: str) -> Device:
        host, _, port = self.service.endpoint.partition(":")
        tls = context_of(self.ca_pem, pem)
        return Device(name, arn, certificate_id, tls, host, int(port))

    def counts(self) -> dict[str, int]:
        return dict(self.service.status()["counts"])

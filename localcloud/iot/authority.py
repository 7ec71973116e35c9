"""The certificate authority of the local IoT Core, and the TLS that it asks of devices."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
import tempfile
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localcloud.durable import moment
from localcloud.http import AwsError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

# As long as those that AWS issues are valid: to the end of 2049.
_END = dt.datetime(2049, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_BACK = dt.timedelta(minutes=5)
_FILE = "iot-ca.pem"
# The order of the curve's group, and more bytes than it has, so that no secret is likelier.
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SECRET_BYTES = 48


class Authority:
    """Issues certificates to devices and to the broker itself.

    Args:
        host: The broker's address.
        folder: Where its key lies from one start to the next; None makes a new one each time.
    """

    def __init__(self, host: str, folder: Path | None = None) -> None:
        self._host = host
        kept = folder / _FILE if folder is not None else None
        if kept is not None and kept.exists():
            self._load(kept.read_bytes())
        else:
            self._make()
            if kept is not None:
                _write_private(kept, self._pem(self._key) + self.ca_pem.encode())

    @property
    def ca_pem(self) -> str:
        """The authority's certificate, which clients trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, csr_pem: str) -> str:
        """A device's certificate for a certificate signing request, PEM.

        Raises:
            AwsError: InvalidRequestException, where the request is none or not signed by its key.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
            valid = csr.is_signature_valid
        except Exception as error:
            raise AwsError("InvalidRequestException", "Invalid CSR") from error
        if not valid:
            raise AwsError("InvalidRequestException", "Invalid CSR: its signature is not valid")
        return self._issue(csr.public_key(), "AWS IoT Certificate", ExtendedKeyUsageOID.CLIENT_AUTH)

    def key_and_certificate(self) -> tuple[str, str, str]:
        """(certificate, public key, private key) of a new device, PEM."""
        # Made of the request's moment, so that a request that is made again gives the same.
        secret = int.from_bytes(moment.random_bytes(_SECRET_BYTES)) % (_ORDER - 1) + 1
        key = ec.derive_private_key(secret, ec.SECP256R1())
        certificate = self._issue(
            key.public_key(), "AWS IoT Certificate", ExtendedKeyUsageOID.CLIENT_AUTH
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return certificate, public.decode(), self._pem(key).decode()

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, with a certificate asked of every client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # Certificates that were registered without their authority are trusted themselves.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=self.ca_pem)
        context.set_alpn_protocols(["mqtt", "x-amzn-mqtt-ca"])
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(
            key.public_key(), self._host, ExtendedKeyUsageOID.SERVER_AUTH, self._host
        )
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(self._pem(key) + certificate.encode())
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _make(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("fleetcast local IoT Core CA")
        self._certificate = (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _load(self, pem: bytes) -> None:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{_FILE} does not hold the key of this authority")
        self._key, self._certificate = key, x509.load_pem_x509_certificate(pem)

    def _issue(
        self,
        key: CertificatePublicKeyTypes,
        common_name: str,
        usage: x509.ObjectIdentifier,
        address: str | None = None,
    ) -> str:
        builder = (
            _builder(_name(common_name), self._certificate.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if address is not None:
            names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256(), ecdsa_deterministic=True)
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    @staticmethod
    def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def certificate_id(der: bytes) -> str:
    """The id that IoT Core gives a certificate: the digest of its bytes."""
    return hashlib.sha256(der).hexdigest()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes
) -> x509.CertificateBuilder:
    now = dt.datetime.fromtimestamp(moment.now_s(), dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(int.from_bytes(moment.random_bytes(19)) + 1)
        .not_valid_before(now - _BACK)
        .not_valid_after(_END)
    )


def _write_private(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)

"""Keys and certificates of devices, each in one file that nobody but its owner may read."""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_END = "-----END CERTIFICATE-----"
_BEGIN = "-----BEGIN CERTIFICATE-----"
GATEWAY_PREFIX = "gw-"


def gateway_name(number: int) -> str:
    """The name of a gateway."""
    return f"{GATEWAY_PREFIX}{number:06d}"


@dataclass(frozen=True, slots=True)
class Identities:
    """The identities of one environment's devices.

    Attributes:
        folder: Where they are.
        environment: The environment.
    """

    folder: Path
    environment: str

    def thing(self, device: str) -> str:
        """The thing of a device: its name in IoT Core, and its MQTT client id."""
        return Names(self.environment)(device)

    def path(self, device: str) -> Path:
        """The file with a device's private key and certificate, PEM."""
        return self.folder / f"{device}.pem"

    def save(self, device: str, key_pem: str, certificate_pem: str) -> None:
        """Keeps an identity, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path(device)
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key_pem + certificate_pem)
        new.replace(path)

    def certificate_id(self, device: str) -> str | None:
        """The id of a device's certificate in IoT Core; None where it has none, or a broken one."""
        try:
            text = self.path(device).read_text()
            pem = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        except (OSError, ValueError):
            return None

    def remove(self, device: str) -> None:
        """Forgets a device."""
        self.path(device).unlink(missing_ok=True)

    def devices(self) -> Iterator[str]:
        """Names of the devices that have one, sorted."""
        yield from sorted(path.stem for path in self.folder.glob("*.pem"))

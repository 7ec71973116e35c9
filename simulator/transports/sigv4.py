"""AWS's Signature Version 4 of requests that are alike but for their body.

As in "Create a signed AWS API request" of AWS's IAM user guide. botocore's signer, which this one is
tested against, takes longer for the headers than the hash of a body does.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM, _ENDING = "AWS4-HMAC-SHA256", "aws4_request"
_PORTS = {"http": 80, "https": 443}


class RequestSigner:
    """Signs POST requests to one URL.

    Args:
        service: The service's name in signatures.
        region: Its region.
        url: Where requests go.
    """

    def __init__(self, service: str, region: str, url: str) -> None:
        parts = urlsplit(url)
        default = parts.port in {None, _PORTS.get(parts.scheme)}
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._host = host if default else f"{host}:{parts.port}"
        self._path = quote(parts.path or "/", safe="/~%")
        self._service = service
        self._region = region
        # (secret key, day) and the key that is derived of them, which is the same all day.
        self._derived: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def signed(
        self, headers: dict[str, str], body: bytes, keys: ReadOnlyCredentials, now_s: float
    ) -> dict[str, str]:
        """Headers with those that the signature needs, and the signature.

        Args:
            headers: Those that are signed, besides the host: names in lower case.
            body: What is sent.
            keys: Whose signature.
            now_s: The time, epoch seconds.
        """
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        headers = {**headers, "x-amz-date": now}
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        members = sorted({**headers, "host": self._host}.items())
        names = ";".join(name for name, _ in members)
        lines = "".join(f"{name}:{value}\n" for name, value in members)
        digest = hashlib.sha256(body).hexdigest()
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{digest}"
        scope = f"{now[:8]}/{self._region}/{self._service}/{_ENDING}"
        text = f"{_ALGORITHM}\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = _mac(self._key(keys.secret_key, now[:8]), text).hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}"
        )
        return headers

    def _key(self, secret: str, day: str) -> bytes:
        known, key = self._derived
        if known != (secret, day):
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, self._service, _ENDING):
                key = _mac(key, part)
            self._derived = ((secret, day), key)
        return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")

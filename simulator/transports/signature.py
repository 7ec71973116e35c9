"""Requests of one kind to one address, signed by botocore.

What a signature says of the moment is the second: of a request, all but its body is the same for
so long, and is put together once.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials


class _Signer(SigV4Auth):  # type: ignore[misc]
    """Signs as botocore does, without telling a log the session token and what it signs."""

    def begin(self, request: AWSRequest) -> str:
        """Gives a request its headers, a signature that lacks its digits among them.

        Returns:
            What is to be signed, but for the digest of the body, with which it ends.
        """
        self._modify_request_before_signing(request)
        canonical: str = self.canonical_request(request)
        self._inject_signature_to_request(request, "")
        return canonical.removesuffix(sha256(b"").hexdigest())


class Signature:
    """Signs requests that differ in nothing but their bodies and when they are sent.

    Args:
        url: Where they go.
        headers: What they have beside the headers of the signature.
        region: The region of the service.
    """

    def __init__(self, url: str, headers: dict[str, str], region: str) -> None:
        self._url = url
        self._given = headers
        self._region = region
        self._made_for: tuple[str, ReadOnlyCredentials] | None = None

    def headers(self, body: bytes, credentials: ReadOnlyCredentials) -> dict[str, str]:
        """All headers of a request of now."""
        timestamp = get_current_datetime().strftime(SIGV4_TIMESTAMP)
        if self._made_for != (timestamp, credentials):
            self._make(timestamp, credentials)
        signer, request = self._signer, self._request
        canonical = self._canonical + sha256(body).hexdigest()
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        return {**self._headers, "Authorization": self._authorization + signature}

    def _make(self, timestamp: str, credentials: ReadOnlyCredentials) -> None:
        """What the requests of a second share."""
        self._made_for = None
        self._signer = _Signer(credentials, "kinesis", self._region)
        request = self._request = AWSRequest("POST", self._url, headers=self._given)
        request.context["timestamp"] = timestamp
        self._canonical = self._signer.begin(request)
        self._headers: dict[str, str] = dict(request.headers.items())
        self._authorization = self._headers["Authorization"]
        self._made_for = timestamp, credentials

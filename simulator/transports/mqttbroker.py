"""IoT Core's message broker as a client finds it: where it is, and what TLS with it takes."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.request
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.target import Target

AWS_PORT = 8883


async def endpoint(target: Target) -> tuple[str, int]:
    """Host and port of a target's broker.

    Raises:
        TargetError: IoT Core does not tell.
    """
    try:
        async with target.client("iot", retries={"total_max_attempts": 3}) as client:
            answer = await client.describe_endpoint(endpointType="iot:Data-ATS")
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(f"IoT Core's endpoint cannot be read: {error}") from error
    host, _, port = str(answer["endpointAddress"]).partition(":")
    return host, int(port or AWS_PORT)


async def authority(target: Target) -> str | None:
    """The local cloud's authority, PEM; None for those that the machine trusts, as for AWS.

    Raises:
        TargetError: the local cloud does not tell.
    """
    url = target.endpoint_url
    if url is None:
        return None

    def read() -> Any:
        with urllib.request.urlopen(f"{url}/_fleetcast/iot", timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    try:
        return str((await asyncio.to_thread(read))["ca_pem"])
    except (OSError, ValueError, KeyError) as error:
        raise TargetError(f"the local cloud at {url} does not tell its CA: {error}") from error


def tls_with(identity: Path, trusted: str | None) -> ssl.SSLContext:
    """TLS as the holder of an identity.

    Args:
        identity: A file with a private key and its certificate, PEM.
        trusted: What `authority` told.

    Raises:
        UsageError: the file holds none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trusted is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=trusted)
    try:
        context.load_cert_chain(identity)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{identity} holds no key and certificate: enrol it again") from error
    return context

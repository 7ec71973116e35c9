"""A target is where API calls go: AWS itself, or the local cloud on a loopback port."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TargetName = Literal["local", "aws"]

LOCAL_HOST = "127.0.0.1"
LOCAL_PORT = 4566
LOCAL_REGION = "us-east-1"
LOCAL_ACCOUNT = "123456789012"
# Any key pair is accepted by the local cloud; these never leave the machine.
LOCAL_ACCESS_KEY = "fleetcast-local"
LOCAL_SECRET_KEY = "fleetcast-local"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Target:
    """Where and as whom AWS API calls are made.

    Attributes:
        name: `local` or `aws`.
        region: The AWS region.
        endpoint_url: The one endpoint of the local cloud, or None for AWS's own endpoints.
    """

    name: TargetName
    region: str
    endpoint_url: str | None = None

    @classmethod
    def named(cls, name: str, *, region: str | None = None, port: int | None = None) -> Target:
        """The target called `name`, with port and region from the environment where not given.

        Raises:
            UsageError: the name is neither `local` nor `aws`, or the port is no number.
        """
        if name == "local":
            return cls(
                "local", region or LOCAL_REGION, f"http://{LOCAL_HOST}:{port or local_port()}"
            )
        if name == "aws":
            return cls("aws", region or os.environ.get("AWS_REGION", LOCAL_REGION))
        raise UsageError(f"unknown target {name!r}: use --target local or --target aws")

    def client_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for `create_client` of boto3, botocore and aiobotocore sessions."""
        if self.endpoint_url is None:
            return {"region_name": self.region}
        return {
            "region_name": self.region,
            "endpoint_url": self.endpoint_url,
            "aws_access_key_id": LOCAL_ACCESS_KEY,
            "aws_secret_access_key": LOCAL_SECRET_KEY,
        }

    @asynccontextmanager
    async def client(self, service: str, **config: Any) -> AsyncIterator[Any]:
        """An aiobotocore client of `service` for this target; `config` goes to its `AioConfig`."""
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - keeps --help fast

        settings: dict[str, Any] = {
            "s3": {"addressing_style": "path"} if self.name == "local" else {},
            "retries": {"mode": "standard", "max_attempts": 4},
            **config,
        }
        # Of a plain endpoint nothing is verified, so that no client has to load the authorities.
        plain = (self.endpoint_url or "").startswith("http://")
        async with _session().create_client(
            service,
            config=AioConfig(**settings),
            verify=False if plain else None,
            **self.client_kwargs(),
        ) as client:
            yield client


def _session() -> Any:
    """The event loop's session: each reads AWS's tables of endpoints anew, which takes 0.1 s."""
    from aiobotocore.session import get_session  # noqa: PLC0415 - keeps --help fast

    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        _sessions[loop] = get_session()
    return _sessions[loop]


_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def local_port() -> int:
    """The local cloud's port: `FLEETCAST_PORT`, or 4566.

    Raises:
        UsageError: `FLEETCAST_PORT` is not a port number.
    """
    text = os.environ.get("FLEETCAST_PORT", str(LOCAL_PORT))
    if not text.isdigit() or not 0 < int(text) < 65536:  # noqa: PLR2004 - the range of ports
        raise UsageError(f"FLEETCAST_PORT={text!r} is not a port: give a number from 1 to 65535")
    return int(text)

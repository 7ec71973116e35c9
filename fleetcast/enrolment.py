"""Devices of an environment in IoT Core: things, certificates, policy and group, many at once.

Keys are made here and never leave the machine: IoT Core sees a certificate signing request. What is
done is known by the files of identities and by what IoT Core says of their certificates, so that
an enrolment that was interrupted goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from fleetcast.claims import Claims
    from fleetcast.target import Target
    from simulator.identities import Identities

# IoT Core takes about ten registry calls a second of each kind on AWS; retries keep to that.
AT_ONCE = 16
ACTIVE, REVOKED, NONE = "ACTIVE", "REVOKED", "NOT ENROLLED"
_PAGE = 250


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What an enrolment did."""

    new: int
    there: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device that is known here, and what IoT Core says of its certificate."""

    device: str
    thing: str
    certificate_id: str
    status: str


class Enrolment:
    """Enrols devices of one environment.

    Args:
        target: Where.
        identities: Where keys and certificates are kept.
        progress: Is told (done, of how many).
    """

    def __init__(
        self, target: Target, identities: Identities, progress: Callable[[int, int], None]
    ) -> None:
        self._target = target
        self._identities = identities
        self._names = Names(identities.environment)
        self._progress = progress

    async def enrol(
        self, devices: Sequence[str], *, gateways: bool = False, claims: Claims | None = None
    ) -> Enrolled:
        """Gives each of the devices a thing and an active certificate, unless it has them.

        Args:
            devices: Their names.
            gateways: Whether they are gateways.
            claims: Devices ask for them over MQTT with this; None makes them with IoT Core's API.

        Raises:
            TargetError: IoT Core refused; what was enrolled stays enrolled.
        """
        policy = self._names("gateway" if gateways else "device")
        async with self._client() as iot:
            known = await self._statuses(iot)
            missing = [
                d for d in devices if known.get(self._identities.certificate_id(d) or "") != ACTIVE
            ]
            things = await things_of(iot, self._names("device")) if missing else set()
            if claims is None:
                await each(
                    missing,
                    lambda device: self._enrol(iot, device, policy, things),
                    self._progress,
                )
            elif missing:
                await self._enrol_by_claim(iot, missing, things, known, claims)
        return Enrolled(len(missing), len(devices) - len(missing))

    async def states(self) -> list[DeviceState]:
        """All devices that are known here.

        Raises:
            TargetError: IoT Core did not answer.
        """
        async with self._client() as iot:
            known = await self._statuses(iot)
        found = []
        for device in self._identities.devices():
            number = self._identities.certificate_id(device) or ""
            status = known.get(number, NONE)
            found.append(DeviceState(device, self._identities.thing(device), number, status))
        return found

    async def revoke(self, devices: Sequence[str], *, delete: bool) -> Counter[str]:
        """Revokes the certificates of devices; deletes them and their things, if asked to.

        Returns:
            How many were revoked, deleted, and not there.

        Raises:
            TargetError: IoT Core refused.
        """
        done: Counter[str] = Counter()

        async def one(device: str) -> None:
            done[await self._revoke(iot, device, delete=delete)] += 1

        async with self._client() as iot:
            await each(devices, one, self._progress)
        return done

    def _client(self) -> AbstractAsyncContextManager[Any]:
        return clients_of(self._target)

    async def _statuses(self, iot: Any) -> dict[str, str]:
        """Certificate id to status, of all in the account."""
        found: dict[str, str] = {}
        more: dict[str, Any] = {}
        try:
            while True:
                page = await iot.list_certificates(pageSize=_PAGE, **more)
                found |= {one["certificateId"]: one["status"] for one in page["certificates"]}
                if not page.get("nextMarker"):
                    return found
                more = {"marker": page["nextMarker"]}
        except (ClientError, BotoCoreError, OSError) as error:
            where = self._target.endpoint_url or f"AWS in {self._target.region}"
            raise TargetError(f"IoT Core at {where} cannot be asked: {error}") from error

    async def _enrol(self, iot: Any, device: str, policy: str, things: set[str]) -> None:
        key_pem, csr = await asyncio.to_thread(_key_and_request, self._identities.thing(device))
        thing = self._identities.thing(device)
        if thing in things:
            # Of an enrolment that was cut off, or of a device whose key is lost: nobody holds them.
            await retire(iot, thing)
        else:
            await iot.create_thing(thingName=thing, thingTypeName=self._names("device"))
        made = await iot.create_certificate_from_csr(
            certificateSigningRequest=csr, setAsActive=True
        )
        arn = made["certificateArn"]
        await asyncio.gather(
            iot.attach_policy(policyName=policy, target=arn),
            iot.attach_thing_principal(thingName=thing, principal=arn),
            iot.add_thing_to_thing_group(thingGroupName=self._names("devices"), thingName=thing),
        )
        # Last, so that a device with a file is a device that may connect.
        self._identities.save(device, key_pem, made["certificatePem"])

    async def _enrol_by_claim(
        self, iot: Any, devices: Sequence[str], things: set[str], known: dict[str, str],
        claims: Claims,
    ) -> None:  # fmt: skip
        """Lets devices ask for what `_enrol` makes; the template says what they become."""
        made = await asyncio.to_thread(_key_and_request, self._names("claim"))
        try:
            await claims.ready(iot, known, made)
        except (ClientError, BotoCoreError) as error:
            raise TargetError(
                f"IoT Core: no claim certificate could be made: {error}; deploy again, if the "
                "stack is older than provisioning by claim"
            ) from error

        @contextlib.asynccontextmanager
        async def connected() -> AsyncIterator[Callable[[str], Awaitable[None]]]:
            async with claims.connected() as provision:

                async def work(device: str) -> None:
                    thing = self._identities.thing(device)
                    key_pem, csr = await asyncio.to_thread(_key_and_request, thing)
                    if thing in things:
                        await retire(iot, thing)
                    pem = await provision(device, thing, csr)
                    self._identities.save(device, key_pem, pem)

                yield work

        await each_with(devices, connected, self._progress)

    async def _revoke(self, iot: Any, device: str, *, delete: bool) -> str:
        number = self._identities.certificate_id(device)
        if number is None:
            return "not there"
        try:
            await iot.update_certificate(certificateId=number, newStatus=REVOKED)
        except iot.exceptions.ResourceNotFoundException:
            if delete:
                self._identities.remove(device)
            return "not there"
        if not delete:
            return "revoked"
        thing = self._identities.thing(device)
        await retire(iot, thing)
        await iot.delete_thing(thingName=thing)
        self._identities.remove(device)
        return "deleted"


def clients_of(target: Target) -> AbstractAsyncContextManager[Any]:
    """Opens a client of IoT Core's API that keeps to the pace which IoT Core takes."""
    return target.client(
        "iot", max_pool_connections=AT_ONCE, retries={"mode": "adaptive", "max_attempts": 10}
    )


async def each(
    names: Sequence[str],
    work: Callable[[str], Awaitable[None]],
    progress: Callable[[int, int], None],
) -> None:
    """Does something for each of the names, many at once.

    Args:
        names: Of devices, things or certificates.
        work: What to do.
        progress: Is told (done, of how many).

    Raises:
        TargetError: it failed for one; what is done is done.
    """

    @contextlib.asynccontextmanager
    async def same() -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        yield work

    await each_with(names, same, progress)


async def each_with(
    names: Sequence[str],
    opened: Callable[[], AbstractAsyncContextManager[Callable[[str], Awaitable[None]]]],
    progress: Callable[[int, int], None],
) -> None:
    """As `each`, where whoever does it must open something first, such as a connection."""
    waiting = iter(names)
    done = 0

    async def worker() -> None:
        nonlocal done
        async with opened() as work:
            for name in waiting:
                await work(name)
                done += 1
                progress(done, len(names))

    workers = [asyncio.create_task(worker()) for _ in range(min(AT_ONCE, len(names)))]
    try:
        await asyncio.gather(*workers)
    except (ClientError, BotoCoreError, OSError, TargetError) as error:
        raise TargetError(
            f"IoT Core: {error}; {done:,} of {len(names):,} are done: run the same again to go on"
        ) from error
    finally:
        for one in workers:
            one.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def things_of(iot: Any, kind: str) -> set[str]:
    """Names of the things of a type."""
    found: set[str] = set()
    more: dict[str, Any] = {"thingTypeName": kind}
    while True:
        page = await iot.list_things(maxResults=_PAGE, **more)
        found |= {one["thingName"] for one in page["things"]}
        if not page.get("nextToken"):
            return found
        more["nextToken"] = page["nextToken"]


async def retire(iot: Any, thing: str) -> None:
    """Revokes and deletes the certificates that are attached to a thing."""
    for arn in (await iot.list_thing_principals(thingName=thing))["principals"]:
        number = arn.rpartition("/")[2]
        await iot.update_certificate(certificateId=number, newStatus=REVOKED)
        for policy in (await iot.list_attached_policies(target=arn))["policies"]:
            await iot.detach_policy(policyName=policy["policyName"], target=arn)
        await iot.detach_thing_principal(thingName=thing, principal=arn)
        await iot.delete_certificate(certificateId=number)


def _key_and_request(name: str) -> tuple[str, str]:
    """(private key, certificate signing request) of a device, PEM."""
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode(), signed.public_bytes(serialization.Encoding.PEM).decode()

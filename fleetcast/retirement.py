"""Devices of an environment that is destroyed: AWS deletes no policy and no thing type in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.enrolment import REVOKED, each, retire, things_of
from fleetcast.errors import TargetError, UsageError
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from simulator.identities import Identities

POLICIES = ("device", "gateway", "claim")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What of an environment's devices is in IoT Core.

    Attributes:
        things: Names of its things, sorted.
        certificates: ARNs of certificates that have one of its policies.
    """

    things: tuple[str, ...]
    certificates: tuple[str, ...]


class Retirement:
    """Looks for the devices of an environment, and takes them out of IoT Core.

    Args:
        client: Opens a client of IoT Core's API.
        identities: The keys and certificates of devices that are kept here.
        claims: The claim certificate that is kept here.
    """

    def __init__(
        self,
        client: Callable[[], AbstractAsyncContextManager[Any]],
        identities: Identities,
        claims: Identities,
    ) -> None:
        self._client = client
        self._identities = identities
        self._claims = claims
        self._names = Names(identities.environment)

    async def refuse(self, target: str) -> None:
        """Makes sure that no devices are enrolled.

        Args:
            target: The target's name.

        Raises:
            UsageError: some are.
            TargetError: IoT Core did not answer.
        """
        async with self._client() as iot:
            found = await self._found(iot)
        environment = self._identities.environment
        # The claim that is kept here goes with the environment.
        held = {self._claims.certificate_id(one) for one in self._claims.devices()}
        others = [arn for arn in found.certificates if arn.rpartition("/")[2] not in held]
        if not found.things and not others:
            return
        if found.things:
            told = f"{len(found.things):,} devices are enrolled, {found.things[0]} the first"
        else:
            told = f"{len(others):,} certificates have its policies"
        known = {self._identities.thing(device) for device in self._identities.devices()}
        advice = "destroy it with --devices, which retires them"
        if known.issuperset(found.things):
            where = f"--target {target} --env {environment}"
            advice = f"run fleetcast devices revoke --all --delete {where}, or {advice}"
        raise UsageError(f"environment {environment!r} on {target} is in use: {told}; {advice}")

    async def retire(self, progress: Callable[[int, int], None]) -> int:
        """Revokes and deletes certificates, things and keys of all devices, and the claim.

        Args:
            progress: Is told (done, of how many).

        Returns:
            How many things there were.

        Raises:
            TargetError: IoT Core refused; what was retired stays retired.
        """
        async with self._client() as iot:
            found = await self._found(iot)

            async def thing(name: str) -> None:
                await retire(iot, name)
                await iot.delete_thing(thingName=name)

            await each(found.things, thing, progress)
            left = (await self._found(iot)).certificates
            await each(left, lambda arn: _delete(iot, arn), lambda _done, _total: None)
        for kept in (self._identities, self._claims):
            for device in list(kept.devices()):
                kept.remove(device)
        return len(found.things)

    async def retire_claim(self) -> None:
        """Revokes and deletes the claim certificate that is kept here, if there is one."""
        held = [self._claims.certificate_id(one) for one in self._claims.devices()]
        async with self._client() as iot:
            arns = (await self._found(iot)).certificates
            mine: Sequence[str] = [arn for arn in arns if arn.rpartition("/")[2] in held]
            await each(mine, lambda arn: _delete(iot, arn), lambda _done, _total: None)
        for one in list(self._claims.devices()):
            self._claims.remove(one)

    async def _found(self, iot: Any) -> Enrolled:
        certificates: set[str] = set()
        try:
            things = await things_of(iot, self._names("device"))
            for what in POLICIES:
                certificates |= await _targets(iot, self._names(what))
        except (ClientError, BotoCoreError, OSError) as error:
            raise TargetError(f"IoT Core cannot be asked for devices: {error}") from error
        return Enrolled(tuple(sorted(things)), tuple(sorted(certificates)))


async def _targets(iot: Any, policy: str) -> set[str]:
    """ARNs of the certificates that a policy is attached to; none where there is no such policy."""
    found: set[str] = set()
    more: dict[str, Any] = {}
    while True:
        try:
            page = await iot.list_targets_for_policy(policyName=policy, **more)
        except iot.exceptions.ResourceNotFoundException:
            return found
        found |= {arn for arn in page.get("targets", ()) if ":cert/" in arn}
        if not page.get("nextMarker"):
            return found
        more["marker"] = page["nextMarker"]


async def _delete(iot: Any, arn: str) -> None:
    """Revokes and deletes a certificate, whatever it is attached to."""
    number = arn.rpartition("/")[2]
    await iot.update_certificate(certificateId=number, newStatus=REVOKED)
    for policy in (await iot.list_attached_policies(target=arn))["policies"]:
        await iot.detach_policy(policyName=policy["policyName"], target=arn)
    for thing in (await iot.list_principal_things(principal=arn))["things"]:
        await iot.detach_thing_principal(thingName=thing, principal=arn)
    await iot.delete_certificate(certificateId=number)

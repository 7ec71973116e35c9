"""Who a device is and what it may do: certificates, things and policies as moto keeps them.

Follows "AWS IoT Core policies" and "Thing policy variables" of the developer guide.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.access.policy import Request, effect_of, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.access.policy import Statement

_OF_GROUPS = {"AddThingToThingGroup", "DeleteThing"}
_NOTHING: tuple[Statement, ...] = ()


@dataclass(slots=True)
class Device:
    """A connection's certificate and client id, with what was decided about it.

    Attributes:
        certificate_id: Of its certificate.
        client_id: Its client id; empty before CONNECT.
        thing: The thing of that name that the certificate is attached to, or empty.
    """

    certificate_id: str
    client_id: str = ""
    thing: str = ""
    _decided: dict[tuple[str, str], bool] = field(default_factory=dict)
    _version: int = -1


class Registry:
    """Reads moto's registry of one account and region, and decides.

    Args:
        account_id: The account.
        region: The region.
    """

    def __init__(self, account_id: str, region: str) -> None:
        self._account_id = account_id
        self._region = region
        # Moves with every request that may have changed something.
        self._version = 0
        self._read = -1
        self._policies: dict[str, dict[str, tuple[Statement, ...]]] = {}
        self._things: dict[str, set[str]] = {}

    def changed(self) -> None:
        """Forgets what was read and decided."""
        self._version += 1

    def follow(self, operation: str, asked: Mapping[str, Any]) -> None:
        """Takes in what one call for one device changed; nothing else is read again.

        Args:
            operation: The call.
            asked: Its parameters.
        """
        current = self._read == self._version
        if operation == "AttachPolicy" and current:
            name = asked["policyName"]
            document = self._backend().policies[name].document
            self._policies.setdefault(asked["target"], {})[name] = _parsed(document)
        elif operation == "DetachPolicy":
            self._policies.get(asked["target"], {}).pop(asked["policyName"], None)
        elif operation == "AttachThingPrincipal":
            self._things.setdefault(asked["principal"], set()).add(asked["thingName"])
        elif operation == "DetachThingPrincipal":
            self._things.get(asked["principal"], set()).discard(asked["thingName"])
        elif operation not in _OF_GROUPS:
            return
        self._version += 1
        if current:
            self._read = self._version

    def certificate_status(self, certificate_id: str) -> str | None:
        """`ACTIVE`, `INACTIVE`, `REVOKED`, ...; None where there is no such certificate."""
        found = self._backend().certificates.get(certificate_id)
        return str(found.status) if found is not None else None

    def identify(self, device: Device, client_id: str) -> None:
        """A device says who it is."""
        self._load()
        device.client_id = client_id
        attached = self._things.get(self._arn(f"cert/{device.certificate_id}"), set())
        device.thing = client_id if client_id in attached else ""
        device._version = -1  # noqa: SLF001 - of this module

    def allows(self, device: Device, action: str, resource: str) -> bool:
        """Whether the policies of a device allow it.

        Args:
            device: Who.
            action: Such as `Publish`.
            resource: Such as `topic/fleet/dev-1/readings`.
        """
        if device._version != self._version:  # noqa: SLF001
            device._decided.clear()  # noqa: SLF001
            device._version = self._version  # noqa: SLF001
        place = (action, resource)
        known = device._decided.get(place)  # noqa: SLF001
        if known is None:
            known = device._decided[place] = self._decide(device, action, resource)  # noqa: SLF001
        return known

    def _decide(self, device: Device, action: str, resource: str) -> bool:
        self._load()
        certificate = self._arn(f"cert/{device.certificate_id}")
        policies = list(self._policies.get(certificate, {}).values())
        for group in self._groups(self._things.get(certificate, set())):
            policies += self._policies.get(group, {}).values()
        context = {
            "iot:clientid": (device.client_id,),
            "iot:connection.thing.isattached": (str(bool(device.thing)).lower(),),
        }
        if device.thing:
            context["iot:connection.thing.thingname"] = (device.thing,)
            thing = self._backend().things.get(self._arn(f"thing/{device.thing}"))
            kind = getattr(thing, "thing_type", None) if thing is not None else None
            if kind is not None:
                context["iot:connection.thing.thingtypename"] = (kind.thing_type_name,)
            for name, value in (getattr(thing, "attributes", None) or {}).items():
                context[f"iot:connection.thing.attributes[{name.lower()}]"] = (str(value),)
        asked = Request(f"iot:{action}", self._arn(resource), context=context)
        return effect_of(policies, asked) == "Allow"

    def _load(self) -> None:
        if self._read == self._version:
            return
        backend, version = self._backend(), self._version
        self._policies, self._things = {}, {}
        for (target, name), (_, policy) in list(backend.principal_policies.items()):
            self._policies.setdefault(target, {})[name] = _parsed(policy.document)
        for principal, thing in list(backend.principal_things):
            self._things.setdefault(principal, set()).add(thing)
        self._read = version

    def _groups(self, things: set[str]) -> list[str]:
        """The groups that any of the things are in, and the groups that those are in."""
        arns = {self._arn(f"thing/{thing}") for thing in things}
        groups = self._backend().thing_groups
        found = []
        for arn, group in list(groups.items()):
            if not arns.isdisjoint(group.things):
                parents = group.metadata.get("rootToParentThingGroups", ())
                found += [arn, *(self._arn(f"thinggroup/{one['groupName']}") for one in parents)]
        return [arn for arn in found if arn in groups]

    def _arn(self, resource: str) -> str:
        return f"arn:aws:iot:{self._region}:{self._account_id}:{resource}"

    def _backend(self) -> Any:
        from moto.iot.models import iot_backends  # noqa: PLC0415 - slow

        return iot_backends[self._account_id][self._region]


def _parsed(document: Any) -> tuple[Statement, ...]:
    return _statements(document if isinstance(document, str) else json.dumps(document))


@functools.lru_cache(maxsize=1024)
def _statements(document: str) -> tuple[Statement, ...]:
    # A document that is broken lets nobody in.
    try:
        return parse(document)
    except ValueError:
        return _NOTHING

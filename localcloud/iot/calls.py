"""The calls of the registry that are made for each device, on moto's own objects.

moto's web application takes ten times as long for such a call as the call itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.iot.lookups import look_up_by_key

if TYPE_CHECKING:
    from collections.abc import Callable

# What a caller may set; the others are IoT Core's own.
STATUSES = ("ACTIVE", "INACTIVE", "REVOKED")
INVALID = "InvalidRequestException"
Asked = dict[str, Any]


class RegistryCalls:
    """Answers calls about things and certificates.

    Args:
        backend: Gives moto's registry.
    """

    def __init__(self, backend: Callable[[], Any]) -> None:
        look_up_by_key()
        self._backend = backend
        self._calls: dict[str, Callable[[Any, Asked], Any]] = {
            "AddThingToThingGroup": self._add_to_group,
            "AttachPolicy": lambda iot, asked: iot.attach_policy(
                asked["policyName"], asked["target"]
            ),
            "AttachThingPrincipal": lambda iot, asked: iot.attach_thing_principal(
                asked["thingName"], asked["principal"]
            ),
            "CreateThing": self._create_thing,
            "DeleteCertificate": lambda iot, asked: iot.delete_certificate(
                asked["certificateId"], asked.get("forceDelete", False)
            ),
            "DeleteThing": self._delete_thing,
            "DetachPolicy": lambda iot, asked: iot.detach_policy(
                asked["policyName"], asked["target"]
            ),
            "DetachThingPrincipal": lambda iot, asked: iot.detach_thing_principal(
                asked["thingName"], asked["principal"]
            ),
            "ListAttachedPolicies": lambda iot, asked: {
                "policies": [one.to_dict() for one in iot.list_attached_policies(asked["target"])]
            },
            "ListThingPrincipals": lambda iot, asked: {
                "principals": iot.list_thing_principals(asked["thingName"])
            },
            "UpdateCertificate": self._update_certificate,
        }

    def operations(self) -> frozenset[str]:
        """What it answers."""
        return frozenset(self._calls)

    def answer(self, operation: str, asked: Asked) -> Asked:
        """The answer to a call.

        Args:
            operation: One of `operations`.
            asked: Its parameters, checked.

        Raises:
            AwsError: in IoT Core's words.
        """
        from moto.iot.exceptions import IoTClientError  # noqa: PLC0415 - slow

        try:
            told = self._calls[operation](self._backend(), asked)
        except IoTClientError as error:
            raise AwsError(error.error_type, error.message, error.code) from error
        return told or {}

    def register(self, pem: str, status: str) -> Asked:
        """Keeps a certificate that was issued here.

        Returns:
            What IoT Core tells of it: ARN, id and PEM.
        """
        made = self._backend().register_certificate_without_ca(pem, status)
        return {
            "certificateArn": made.arn,
            "certificateId": made.certificate_id,
            "certificatePem": pem,
        }

    @staticmethod
    def _create_thing(iot: Any, asked: Asked) -> Asked:
        """A thing; the same one where there is one of that name that was made alike."""
        name, kind = asked["thingName"], asked.get("thingTypeName")
        attributes = (asked.get("attributePayload") or {}).get("attributes") or {}
        try:
            thing = iot.describe_thing(name)
        except _not_found():
            thing = iot.create_thing(
                name, kind, {"attributes": attributes}, asked.get("billingGroupName")
            )
        else:
            has = thing.thing_type.thing_type_name if thing.thing_type else None
            if (has, thing.attributes, thing.billing_group_name) != (
                kind, attributes, asked.get("billingGroupName"),
            ):  # fmt: skip
                told = f"Thing {name} already exists in account with different attributes"
                raise AwsError("ResourceAlreadyExistsException", told, 409,
                               resourceId=name, resourceArn=thing.arn)  # fmt: skip
        return {"thingName": name, "thingArn": thing.arn, "thingId": thing.thing_id}

    @staticmethod
    def _delete_thing(iot: Any, asked: Asked) -> None:
        """A thing goes out of its groups, too."""
        thing = iot.describe_thing(asked["thingName"])
        wanted = asked.get("expectedVersion")
        if wanted is not None and wanted != thing.version:
            told = f"The version for thing {thing.thing_name} does not match the expected version."
            raise AwsError("VersionConflictException", told, 409)
        iot.delete_thing(thing.thing_name)
        for group in iot.thing_groups.values():
            group.things.pop(thing.arn, None)

    @staticmethod
    def _add_to_group(iot: Any, asked: Asked) -> None:
        iot.add_thing_to_thing_group(
            asked.get("thingGroupName"), asked.get("thingGroupArn"),
            asked.get("thingName"), asked.get("thingArn"),
        )  # fmt: skip

    @staticmethod
    def _update_certificate(iot: Any, asked: Asked) -> None:
        status = asked["newStatus"]
        if status not in STATUSES:
            told = f"newStatus is one of {', '.join(STATUSES)}, not {status}"
            raise AwsError(INVALID, told)
        iot.update_certificate(asked["certificateId"], status)


def _not_found() -> type[Exception]:
    from moto.iot.exceptions import ResourceNotFoundException  # noqa: PLC0415 - slow

    return ResourceNotFoundException  # type: ignore[no-any-return] # moto has no types here

"""The API of provisioning templates: moto has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.durable import moment
from localcloud.http import AwsError
from localcloud.iot.template import Template, TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_VERSIONS = 5
PAGE = 250
INVALID = "InvalidRequestException"
Asked = dict[str, Any]


@dataclass(slots=True)
class Version:
    """A version of a template's document."""

    number: int
    body: str
    template: Template
    created_s: float


@dataclass(slots=True)
class Stored:
    """A provisioning template."""

    name: str
    arn: str
    role_arn: str
    description: str
    enabled: bool
    created_s: float
    modified_s: float
    default: int = 1
    last: int = 1
    versions: dict[int, Version] = field(default_factory=dict)


class ProvisioningTemplates:
    """The templates of one account and region.

    Args:
        arn_prefix: Of the account's resources in IoT Core.
    """

    def __init__(self, arn_prefix: str) -> None:
        self._arn_prefix = arn_prefix
        self._stored: dict[str, Stored] = {}
        self._calls: dict[str, Callable[[Asked], Asked]] = {
            "CreateProvisioningTemplate": self._create,
            "CreateProvisioningTemplateVersion": self._create_version,
            "DeleteProvisioningTemplate": self._delete,
            "DeleteProvisioningTemplateVersion": self._delete_version,
            "DescribeProvisioningTemplate": self._describe,
            "DescribeProvisioningTemplateVersion": self._describe_version,
            "ListProvisioningTemplates": self._list,
            "ListProvisioningTemplateVersions": self._list_versions,
            "UpdateProvisioningTemplate": self._update,
        }

    def operations(self) -> frozenset[str]:
        """What it answers."""
        return frozenset(self._calls)

    def answer(self, operation: str, asked: Asked) -> Asked:
        """The answer to a call.

        Raises:
            AwsError: in IoT Core's words.
        """
        return self._calls[operation](asked)

    def enabled(self, name: str) -> tuple[Stored, Template]:
        """A template that devices may use, and its default version.

        Raises:
            AwsError: there is none.
        """
        found = self._find(name)
        if not found.enabled:
            raise AwsError(INVALID, f"Provisioning template {name} is not enabled")
        return found, found.versions[found.default].template

    def arn(self, name: str) -> str:
        """The ARN of a template."""
        return f"{self._arn_prefix}provisioningtemplate/{name}"

    def _create(self, asked: Asked) -> Asked:
        name = asked["templateName"]
        if asked.get("type", "FLEET_PROVISIONING") != "FLEET_PROVISIONING":
            raise AwsError(INVALID, "Templates of type JITP are not served: use FLEET_PROVISIONING")
        _refuse_hook(asked)
        if name in self._stored:
            raise AwsError("ResourceAlreadyExistsException",
                           f"Provisioning template {name} already exists", 409,
                           resourceId=name, resourceArn=self.arn(name))  # fmt: skip
        now_s = moment.now_s()
        made = Stored(
            name, self.arn(name), asked["provisioningRoleArn"], asked.get("description", ""),
            asked.get("enabled", False), now_s, now_s,
        )  # fmt: skip
        made.versions[1] = _version(1, asked["templateBody"])
        self._stored[name] = made
        return {"templateArn": made.arn, "templateName": name, "defaultVersionId": 1}

    def _update(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        _refuse_hook(asked)
        version = asked.get("defaultVersionId", found.default)
        if version not in found.versions:
            raise AwsError(INVALID, f"{found.name} has no version {version}")
        found.default = version
        found.description = asked.get("description", found.description)
        found.enabled = asked.get("enabled", found.enabled)
        found.role_arn = asked.get("provisioningRoleArn", found.role_arn)
        found.modified_s = moment.now_s()
        return {}

    def _delete(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        del self._stored[found.name]
        return {}

    def _describe(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        return {
            **_summary(found),
            "defaultVersionId": found.default,
            "templateBody": found.versions[found.default].body,
            "provisioningRoleArn": found.role_arn,
        }

    def _list(self, asked: Asked) -> Asked:
        found = [_summary(one) for _, one in sorted(self._stored.items())]
        return _page(asked, "templates", found)

    def _create_version(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        if len(found.versions) >= MAX_VERSIONS:
            told = f"{found.name} has {MAX_VERSIONS} versions already"
            raise AwsError("VersionsLimitExceededException", told, 409)
        made = _version(found.last + 1, asked["templateBody"])
        found.last = made.number
        found.versions[made.number] = made
        found.modified_s = made.created_s
        if asked.get("setAsDefault"):
            found.default = made.number
        return {
            "templateArn": found.arn,
            "templateName": found.name,
            "versionId": made.number,
            "isDefaultVersion": found.default == made.number,
        }

    def _describe_version(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        version = self._version(found, asked["versionId"])
        return {**_told(found, version), "templateBody": version.body}

    def _list_versions(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        told = [_told(found, one) for one in found.versions.values()]
        return _page(asked, "versions", told)

    def _delete_version(self, asked: Asked) -> Asked:
        found = self._find(asked["templateName"])
        version = self._version(found, asked["versionId"])
        if version.number == found.default:
            raise AwsError("DeleteConflictException", "The default version cannot be deleted", 409)
        del found.versions[version.number]
        return {}

    def _find(self, name: str) -> Stored:
        found = self._stored.get(name)
        if found is None:
            told = f"Provisioning template {name} does not exist"
            raise AwsError("ResourceNotFoundException", told, 404)
        return found

    @staticmethod
    def _version(found: Stored, number: int) -> Version:
        version = found.versions.get(number)
        if version is None:
            told = f"{found.name} has no version {number}"
            raise AwsError("ResourceNotFoundException", told, 404)
        return version


def _version(number: int, body: str) -> Version:
    try:
        template = Template(body)
    except TemplateError as error:
        raise AwsError(INVALID, f"Invalid template: {error}") from error
    return Version(number, body, template, moment.now_s())


def _refuse_hook(asked: Asked) -> None:
    if asked.get("preProvisioningHook"):
        raise AwsError(INVALID, "Pre-provisioning hooks are not served locally")


def _summary(found: Stored) -> Asked:
    return {
        "templateArn": found.arn,
        "templateName": found.name,
        "description": found.description,
        "creationDate": found.created_s,
        "lastModifiedDate": found.modified_s,
        "enabled": found.enabled,
        "type": "FLEET_PROVISIONING",
    }


def _told(found: Stored, version: Version) -> Asked:
    return {
        "versionId": version.number,
        "creationDate": version.created_s,
        "isDefaultVersion": version.number == found.default,
    }


def _page(asked: Asked, name: str, found: list[Asked]) -> Asked:
    most = asked.get("maxResults", PAGE)
    text = asked.get("nextToken", "0")
    if not text.isdecimal():
        raise AwsError(INVALID, "nextToken is none that was given out")
    start = int(text)
    told: Asked = {name: found[start : start + most]}
    if len(found) > start + most:
        told["nextToken"] = str(start + most)
    return told

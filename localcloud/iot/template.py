"""Provisioning templates as documents: what they may say, and what comes of them for one device.

Follows "Provisioning templates" of the AWS IoT Core developer guide, for templates of type
FLEET_PROVISIONING.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

MAX_BODY = 10240
CERTIFICATE_ID = "AWS::IoT::Certificate::Id"
THING, CERTIFICATE, POLICY = "AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"
_SECTIONS = {"Parameters", "Mappings", "Resources", "DeviceConfiguration"}
_PROPERTIES = {
    THING: {"ThingName", "ThingTypeName", "ThingGroups", "AttributePayload"},
    CERTIFICATE: {"CertificateId", "Status"},
    POLICY: {"PolicyName", "PolicyDocument"},
}
_UNSERVED = {
    THING: {"BillingGroup", "PackageVersions"},
    CERTIFICATE: {"CertificateSigningRequest", "CertificatePem", "CACertificatePem"},
    POLICY: set[str](),
}
_OVERRIDES = {
    THING: {
        "AttributePayload": {"DO_NOTHING", "REPLACE", "FAIL", "MERGE"},
        "ThingTypeName": {"DO_NOTHING", "REPLACE", "FAIL"},
        "ThingGroups": {"DO_NOTHING", "REPLACE", "FAIL", "MERGE"},
    },
    CERTIFICATE: {"Status": {"DO_NOTHING", "REPLACE", "FAIL"}},
    POLICY: dict[str, set[str]](),
}
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


class TemplateError(ValueError):
    """What is wrong with a template, or with the parameters that it was given."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a template wants for one device.

    Attributes:
        thing_name: The thing; empty where the template has none.
        thing_type: Its type, or empty.
        attributes: Its attributes.
        groups: Its groups.
        overrides: What to do with what a thing has already, by property.
        status: That the certificate gets, `ACTIVE` or `INACTIVE`.
        policies: (name, document) of each policy; one of them is empty.
        configuration: What the device is told.
    """

    thing_name: str = ""
    thing_type: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    overrides: dict[str, str] = field(default_factory=dict)
    status: str = "ACTIVE"
    policies: tuple[tuple[str, str], ...] = ()
    configuration: dict[str, str] = field(default_factory=dict)


class Template:
    """A template that was checked.

    Args:
        body: The document, JSON.

    Raises:
        TemplateError: it cannot be used.
    """

    def __init__(self, body: str) -> None:
        if len(body) > MAX_BODY:
            raise TemplateError(f"a template has at most {MAX_BODY} characters")
        try:
            told = json.loads(body)
        except ValueError as error:
            raise TemplateError(f"the template is not JSON: {error}") from error
        told = _object(told, "the template")
        _only(told, _SECTIONS, "the template")
        self._parameters = _object(told.get("Parameters", {}), "Parameters")
        self._mappings = _object(told.get("Mappings", {}), "Mappings")
        self._configuration = _object(told.get("DeviceConfiguration", {}), "DeviceConfiguration")
        self._resources = _object(told.get("Resources", {}), "Resources")
        for name, parameter in self._parameters.items():
            if _object(parameter, f"parameter {name}").get("Type") != "String":
                raise TemplateError(f"parameter {name}: Type is String")
        kinds = [_checked_resource(name, one) for name, one in self._resources.items()]
        if kinds.count(CERTIFICATE) != 1 or kinds.count(THING) > 1:
            raise TemplateError("a template has one certificate, and one thing at most")

    def plan(self, given: dict[str, str]) -> Plan:
        """What it wants for a device.

        Args:
            given: Its parameters, `AWS::IoT::Certificate::Id` among them.

        Raises:
            TemplateError: a parameter is missing, or a property comes out as what it cannot be.
        """
        values = {
            name: parameter["Default"]
            for name, parameter in self._parameters.items()
            if "Default" in parameter
        } | given
        found: dict[str, Any] = {"policies": ()}
        for name, resource in self._resources.items():
            properties = {
                key: self._value(value, values, f"{name}.{key}")
                for key, value in resource.get("Properties", {}).items()
            }
            kind = resource["Type"]
            if kind == THING:
                found |= _thing(properties)
                found["overrides"] = dict(resource.get("OverrideSettings", {}))
            elif kind == CERTIFICATE:
                found["status"] = _status(properties, values)
            else:
                found["policies"] += (_policy(name, properties),)
        told = {
            key: _text(self._value(value, values, key), f"DeviceConfiguration.{key}")
            for key, value in self._configuration.items()
        }
        return Plan(**found, configuration=told)

    def _value(self, value: Any, values: dict[str, str], where: str) -> Any:
        """A value of the document, its functions worked out."""
        if isinstance(value, list):
            return [self._value(one, values, where) for one in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1 or not next(iter(value)).startswith(("Ref", "Fn::")):
            return {key: self._value(one, values, where) for key, one in value.items()}
        ((function, argument),) = value.items()
        if function == "Ref":
            return _referred(argument, values, where)
        work = getattr(self, "_fn_" + function.removeprefix("Fn::").lower(), None)
        if work is None:
            raise TemplateError(f"{where}: {function} is no function of a template")
        try:
            return work(argument, values, where)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, TemplateError):
                raise
            raise TemplateError(f"{where}: {function} cannot be worked out: {error!r}") from error

    def _fn_join(self, argument: Any, values: dict[str, str], where: str) -> str:
        separator, parts = argument
        return str(separator).join(_text(self._value(p, values, where), where) for p in parts)

    def _fn_select(self, argument: Any, values: dict[str, str], where: str) -> Any:
        index, parts = argument
        return self._value(parts, values, where)[int(index)]

    def _fn_split(self, argument: Any, values: dict[str, str], where: str) -> list[str]:
        separator, text = argument
        return _text(self._value(text, values, where), where).split(separator)

    def _fn_sub(self, argument: Any, values: dict[str, str], where: str) -> str:
        text, more = argument if isinstance(argument, list) else (argument, {})
        known = values | {key: self._value(one, values, where) for key, one in more.items()}
        return _VARIABLE.sub(lambda m: _text(_referred(m.group(1), known, where), where), text)

    def _fn_findinmap(self, argument: Any, values: dict[str, str], where: str) -> Any:
        table, first, second = (self._value(one, values, where) for one in argument)
        return self._mappings[table][first][second]


def _checked_resource(name: str, resource: Any) -> str:
    """The type of a resource that can be used."""
    resource = _object(resource, name)
    kind = resource.get("Type")
    if kind not in _PROPERTIES:
        raise TemplateError(f"{name}: Type is one of {', '.join(_PROPERTIES)}")
    _only(resource, {"Type", "Properties", "OverrideSettings"}, name)
    properties = _object(resource.get("Properties", {}), f"{name}.Properties")
    for key in properties:
        if key in _UNSERVED[kind]:
            raise TemplateError(f"{name}: {key} is not served in a fleet provisioning template")
    _only(properties, _PROPERTIES[kind], name)
    for key, what in _object(resource.get("OverrideSettings", {}), name).items():
        if what not in _OVERRIDES[kind].get(key, set()):
            raise TemplateError(f"{name}: OverrideSettings cannot be {key}: {what}")
    if kind == THING and "ThingName" not in properties:
        raise TemplateError(f"{name}: ThingName is required")
    if kind == CERTIFICATE and "CertificateId" not in properties:
        raise TemplateError(f"{name}: CertificateId is required")
    if kind == POLICY and len(properties) != 1:
        raise TemplateError(f"{name}: give PolicyName or PolicyDocument")
    return str(kind)


def _thing(properties: dict[str, Any]) -> dict[str, Any]:
    attributes = _object(properties.get("AttributePayload", {}), "AttributePayload")
    groups = properties.get("ThingGroups", [])
    if not isinstance(groups, list):
        raise TemplateError("ThingGroups is a list")
    return {
        "thing_name": _text(properties["ThingName"], "ThingName"),
        "thing_type": _text(properties.get("ThingTypeName", ""), "ThingTypeName"),
        "attributes": {key: _text(value, key) for key, value in attributes.items()},
        "groups": tuple(_text(group, "ThingGroups") for group in groups),
    }


def _status(properties: dict[str, Any], values: dict[str, str]) -> str:
    if properties["CertificateId"] != values.get(CERTIFICATE_ID):
        raise TemplateError(f"CertificateId is {{'Ref': '{CERTIFICATE_ID}'}}")
    status = _text(properties.get("Status", "ACTIVE"), "Status").upper()
    if status not in {"ACTIVE", "INACTIVE"}:
        raise TemplateError("Status is ACTIVE or INACTIVE")
    return status


def _policy(where: str, properties: dict[str, Any]) -> tuple[str, str]:
    document = properties.get("PolicyDocument", "")
    if isinstance(document, dict):
        document = json.dumps(document, sort_keys=True)
    return _text(properties.get("PolicyName", ""), where), _text(document, where)


def _referred(name: Any, values: dict[str, str], where: str) -> str:
    if name not in values:
        raise TemplateError(f"{where}: the parameter {name} is missing")
    return values[name]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"{where} is a string, not {type(value).__name__}")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TemplateError(f"{where} is an object, not {type(value).__name__}")
    return value


def _only(told: dict[str, Any], known: set[str], where: str) -> None:
    for name in told:
        if name not in known:
            raise TemplateError(f"{where}: there is no {name}: use {', '.join(sorted(known))}")

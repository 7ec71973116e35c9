"""Answers of the cloud, as they came over the wire, held against botocore's service models."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
import json
from typing import Any

import cbor2


@dataclasses.dataclass
class Wire:
    """What one botocore client has received last, and what of it its model does not allow."""

    status: int = 0
    mistakes: list[str] = dataclasses.field(default_factory=list)

    def watch(self, client: Any) -> None:
        """Looks at every answer before botocore makes of it what it can."""
        client.meta.events.register("before-parse.*", self._check)

    def _check(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        self.status = response_dict["status_code"]
        self.mistakes = []
        if self.status < 300:
            self.mistakes = mistakes(operation_model, response_dict)


def mistakes(operation: Any, response: dict[str, Any]) -> list[str]:
    """What of an answer is not as the operation's output shape has it; a line for each."""
    shape = operation.output_shape
    headers = {name.lower(): value for name, value in dict(response["headers"]).items()}
    body = response["body"]
    found: list[str] = []
    if "x-amzn-requestid" not in headers and "x-amz-request-id" not in headers:
        found.append("no request id")
    # The events of a subscription come one by one, after this; botocore parses them.
    if shape is None or operation.has_event_stream_output:
        return found
    payload = shape.serialization.get("payload")
    if payload and shape.members[payload].type_name == "blob":
        return found
    elsewhere = {
        name: member for name, member in shape.members.items() if "location" in member.serialization
    }
    for name, member in elsewhere.items():
        if member.serialization["location"] == "header":
            wire = member.serialization["name"].lower()
            if name in shape.required_members and wire not in headers:
                found.append(f"header {wire} is missing")
    kind = headers.get("content-type", "")
    if "cbor" in kind:
        _check(shape, cbor2.loads(body) if body else {}, operation.name, found)
    elif body and not (shape.type_name == "structure" and not shape.members):
        value = json.loads(body)
        _check(shape, value, operation.name, found, set(elsewhere))
    return found


def _check(
    shape: Any,
    value: Any,
    where: str,
    found: list[str],
    elsewhere: set[str] | frozenset[str] = frozenset(),
) -> None:
    kind = shape.type_name
    python = {"structure": dict, "map": dict, "list": list}.get(kind)
    if not (isinstance(value, python) if python else _fits(shape, value)):
        found.append(f"{where} is no {kind}: {value!r:.100}")
    elif kind == "structure":
        _check_structure(shape, value, where, found, elsewhere)
    elif kind == "list":
        for member in value:
            _check(shape.member, member, f"{where}[]", found)
    elif kind == "map":
        for key, member in value.items():
            _check(shape.key, key, f"{where}<key>", found)
            _check(shape.value, member, f"{where}[{key}]", found)
    elif shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        found.append(f"{where} is none of {shape.metadata['enum']}: {value!r}")


def _check_structure(
    shape: Any,
    value: dict[str, Any],
    where: str,
    found: list[str],
    elsewhere: set[str] | frozenset[str],
) -> None:
    """`elsewhere` are members that travel in headers."""
    known = {
        member.serialization.get("name", name): member for name, member in shape.members.items()
    }
    found += [
        f"{where} lacks {name}"
        for name in shape.required_members
        if value.get(name) is None and name not in elsewhere
    ]
    for name, member in value.items():
        if name not in known:
            found.append(f"{where} has an unknown member {name}")
        elif member is not None:
            _check(known[name], member, f"{where}.{name}", found)


def _fits(shape: Any, value: Any) -> bool:
    kind = shape.type_name
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if kind in {"integer", "long"}:
        return isinstance(value, int) and number
    if kind in {"float", "double"}:
        return number or value in ("NaN", "Infinity", "-Infinity")
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "timestamp":
        return number or isinstance(value, dt.datetime)
    return isinstance(value, bytes) or _is_base64(value)


def _is_base64(value: Any) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return False
    return True

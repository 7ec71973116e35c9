"""Parameters held against botocore's service models, before a service sees them.

The words are those of AWS's own request validation; several faults of a request are told at once.
A member that is null counts as absent, and is taken out, so that no service meets one.
"""

from __future__ import annotations

import binascii
import datetime as dt
import functools
import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from localcloud.http import AwsError
from localcloud.naming import operation_model, protocol_of, route_of

if TYPE_CHECKING:
    from localcloud.http import Request

MAX_SHOWN = 200
MAX_TOLD = 10
_INTEGERS = {"integer": 2**31, "long": 2**63}
# Lambda tells of an unknown runtime in its own way; see functions.check_settings.
_OWN_ENUMS = {"Runtime"}
_PAYLOADS = {"Invoke", "InvokeAsync", "InvokeWithResponseStream"}


def check_request(request: Request, code: str = "ValidationException") -> None:
    """Checks a JSON or REST-JSON request; others are checked where they are decoded.

    Raises:
        AwsError: SerializationException for a wrong type, `code` for the rest.
    """
    if request.operation:
        if protocol_of(request) != "json":
            return
        if request.operation == "PutRecords":
            _check_put_records(request.json())
            return
        model = operation_model(request.service, request.operation)
        if model is not None and model.input_shape is not None:
            check(model.input_shape, request.json(), code)
        return
    found = route_of(request)
    if found is None:
        return
    model = operation_model(request.service, found[0])
    if model is not None and model.input_shape is not None:
        check(model.input_shape, _rest_parameters(request, model, found[1]), code)


def rest_parameters(
    request: Request, operation: str, path: dict[str, str], code: str = "ValidationException"
) -> dict[str, Any]:
    """The checked parameters of a REST-JSON request, of its body and its address, by member name.

    Args:
        request: The request.
        operation: What it calls.
        path: The variables of its path.
        code: What the service calls a parameter that its model does not allow.

    Raises:
        AwsError: as `check_request` does.
    """
    model = operation_model(request.service, operation)
    if model is None or model.input_shape is None:
        return {}
    values = _rest_parameters(request, model, path)
    check(model.input_shape, values, code)
    return {name: value for name, value in values.items() if value is not None}


def check(shape: Any, value: Any, code: str = "ValidationException") -> None:
    """Checks `value`, parsed JSON or CBOR, against a shape, and takes nulls out of it.

    Raises:
        AwsError: SerializationException for a wrong type, `code` for the rest.
    """
    faults: list[str] = []
    _check(shape, value, "", faults)
    if faults:
        count = f"{len(faults)} validation error{'s' if len(faults) > 1 else ''} detected: "
        raise AwsError(code, count + "; ".join(faults[:MAX_TOLD]))


def _check_put_records(body: dict[str, Any]) -> None:
    """Types alone, and in one cheap pass: the stream checks each record as it takes it."""
    records = body.get("Records")
    if records is None:
        told = _fault(None, "records", "Member must not be null")
        raise AwsError("ValidationException", f"1 validation error detected: {told}")
    if type(records) is not list:
        raise _wrong_type("records", "a list", records)
    for index, entry in enumerate(records):
        if type(entry) is not dict:
            raise _wrong_type(f"records.{index + 1}.member", "a structure", entry)
        if type(entry.get("Data", "")) is not str:
            raise _wrong_type(f"records.{index + 1}.member.data", "base64 text", entry["Data"])
        if type(entry.get("PartitionKey", "")) is not str:
            where = f"records.{index + 1}.member.partitionKey"
            raise _wrong_type(where, "a string", entry["PartitionKey"])
    for name in ("StreamName", "StreamARN"):
        if not isinstance(body.get(name, ""), str):
            raise _wrong_type(_lower(name), "a string", body[name])


def _rest_parameters(request: Request, model: Any, path: dict[str, str]) -> dict[str, Any]:
    """All parameters of a REST-JSON request by member name; the body's are the request's own."""
    body = {} if model.name in _PAYLOADS else request.json()
    query = parse_qs(request.query, keep_blank_values=True)
    values: dict[str, Any] = {}
    for name, shape in model.input_shape.members.items():
        where = shape.serialization.get("location")
        wire = shape.serialization.get("name", name)
        if where == "uri" and wire in path:
            values[name] = _converted(shape, [path[wire]], name)
        elif where == "querystring" and wire in query:
            values[name] = _converted(shape, query[wire], name)
        elif where == "header" and wire.lower() in request.headers:
            values[name] = _converted(shape, [request.headers[wire.lower()]], name)
        elif where is None and wire in body:
            values[name] = body[wire]
    _remove_nulls(body)
    return values


def _converted(shape: Any, texts: list[str], name: str) -> Any:
    """The value of a parameter that travels as text."""
    if shape.type_name == "list":
        return list(texts)
    text = texts[0]
    if shape.type_name in _INTEGERS:
        if not re.fullmatch(r"-?\d{1,19}", text):
            raise _wrong_type(_lower(name), "a number", text)
        return int(text)
    if shape.type_name == "boolean":
        if text.lower() not in {"true", "false"}:
            raise _wrong_type(_lower(name), "a boolean", text)
        return text.lower() == "true"
    return text


def _check(shape: Any, value: Any, where: str, faults: list[str]) -> None:
    kind = shape.type_name
    if kind == "structure":
        _check_structure(shape, value, where, faults)
    elif kind == "list":
        if not isinstance(value, list):
            raise _wrong_type(where, "a list", value)
        _check_length(shape, len(value), value, where, faults)
        for index, member in enumerate(value):
            at = f"{where}.{index + 1}.member"
            if member is None:
                faults.append(_fault(None, at, "Member must not be null"))
            else:
                _check(shape.member, member, at, faults)
    elif kind == "map":
        _check_map(shape, value, where, faults)
    else:
        _check_scalar(shape, value, where, faults)


def _check_structure(shape: Any, value: Any, where: str, faults: list[str]) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(where, "a structure", value)
    _remove_nulls(value)
    prefix = f"{where}." if where else ""
    faults += [
        _fault(None, prefix + _lower(name), "Member must not be null")
        for name in shape.required_members
        if name not in value
    ]
    for name, member in value.items():
        known = shape.members.get(name)
        if known is not None:
            _check(known, member, prefix + _lower(name), faults)


def _check_map(shape: Any, value: Any, where: str, faults: list[str]) -> None:
    if not isinstance(value, dict):
        raise _wrong_type(where, "a map", value)
    _check_length(shape, len(value), value, where, faults)
    for key, member in value.items():
        keys: list[str] = []
        _check(shape.key, key, where, keys)
        if keys:
            rule = keys[0].partition("constraint: ")[2]
            faults.append(_fault(value, where, f"Map keys must satisfy constraint: [{rule}]"))
        if member is None:
            faults.append(_fault(value, where, "Map values must not be null"))
        else:
            _check(shape.value, member, f"{where}.{str(key)[:MAX_SHOWN]}.member", faults)


def _check_scalar(shape: Any, value: Any, where: str, faults: list[str]) -> None:
    kind = shape.type_name
    if kind in {"string", "character"}:
        if not isinstance(value, str):
            raise _wrong_type(where, "a string", value)
        _check_text(shape, value, where, faults)
    elif kind in _INTEGERS:
        if type(value) is not int or not -_INTEGERS[kind] <= value < _INTEGERS[kind]:
            raise _wrong_type(where, f"a number of type {kind}", value)
        _check_range(shape, value, where, faults)
    elif kind in {"float", "double"}:
        if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(where, "a number", value)
        _check_range(shape, value, where, faults)
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _wrong_type(where, "a boolean", value)
    elif kind == "timestamp":
        _check_time(value, where)
    elif kind == "blob":
        _check_length(shape, _blob_length(value, where), "(binary)", where, faults)


def _check_text(shape: Any, value: str, where: str, faults: list[str]) -> None:
    _check_length(shape, len(value), value, where, faults)
    allowed = shape.metadata.get("enum")
    if allowed and value not in allowed and shape.name not in _OWN_ENUMS:
        rule = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
        faults.append(_fault(value, where, rule))
    pattern = shape.metadata.get("pattern")
    if pattern:
        compiled = _compiled(pattern)
        if compiled is not None and not compiled.fullmatch(value):
            rule = f"Member must satisfy regular expression pattern: {pattern}"
            faults.append(_fault(value, where, rule))


def _check_length(shape: Any, length: int, value: Any, where: str, faults: list[str]) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and length < low:
        rule = f"Member must have length greater than or equal to {low}"
        faults.append(_fault(value, where, rule))
    if high is not None and length > high:
        rule = f"Member must have length less than or equal to {high}"
        faults.append(_fault(value, where, rule))


def _check_range(shape: Any, value: float, where: str, faults: list[str]) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and value < low:
        rule = f"Member must have value greater than or equal to {low}"
        faults.append(_fault(value, where, rule))
    if high is not None and value > high:
        rule = f"Member must have value less than or equal to {high}"
        faults.append(_fault(value, where, rule))


def _check_time(value: Any, where: str) -> None:
    if isinstance(value, dt.datetime):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong_type(where, "a time", value)
    try:
        dt.datetime.fromtimestamp(value, dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _wrong_type(where, "a time", value) from error


def _blob_length(value: Any, where: str) -> int:
    if isinstance(value, bytes):
        return len(value)
    if not isinstance(value, str):
        raise _wrong_type(where, "base64 text", value)
    try:
        return len(binascii.a2b_base64(value, strict_mode=True))
    except (binascii.Error, ValueError) as error:
        raise _wrong_type(where, "base64 text", value) from error


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A pattern of Java's that Python reads as well; None where it does not (Unicode classes)."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _remove_nulls(value: dict[str, Any]) -> None:
    for name in [name for name, member in value.items() if member is None]:
        del value[name]


def _fault(value: Any, where: str, rule: str) -> str:
    shown = "null" if value is None else f"'{str(value)[:MAX_SHOWN]}'"
    return f"Value {shown} at '{where}' failed to satisfy constraint: {rule}"


def _wrong_type(where: str, wanted: str, value: Any) -> AwsError:
    given = "null" if value is None else type(value).__name__
    return AwsError(
        "SerializationException", f"{where or 'the request'} must be {wanted}, and is {given}"
    )


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]

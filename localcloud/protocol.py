"""Requests and responses of one AWS service in the wire protocols that its clients use.

botocore ships the service models; moto ships server-side parsers and serializers that work from
them for query and JSON. rpc-v2-cbor is close enough to plain CBOR to be done here.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import uuid
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

import cbor2
import orjson

from localcloud.http import AwsError, Request, Response
from localcloud.validation import check

if TYPE_CHECKING:
    from collections.abc import Mapping

Wire = Literal["json", "query", "cbor"]

_CBOR_PATH = re.compile(r"^/service/[^/]+/operation/(\w+)$")


class ServiceProtocol:
    """Decodes requests and encodes results of one service.

    Args:
        service: botocore's name of the service, such as `cloudwatch`.
    """

    def __init__(self, service: str) -> None:
        # moto's model: its parsers and serializers want shapes that know more than botocore's.
        from moto.core.utils import get_service_model  # noqa: PLC0415

        self._model = get_service_model(service)

    def decode(self, request: Request) -> tuple[Wire, str, dict[str, Any]]:
        """(wire protocol, operation name, parameters by member name) of a request.

        Raises:
            AwsError: the request is malformed or names no operation of the service.
        """
        wire: Wire
        cbor = _CBOR_PATH.match(request.path)
        if cbor:
            operation = self._known(cbor.group(1))
            wire, body = "cbor", self._times(operation, _cbor_body(request.body))
        elif request.operation:
            operation = self._known(request.operation)
            wire, body = "json", self._times(operation, request.json())
        else:
            values = dict(parse_qsl(request.query, keep_blank_values=True))
            text = request.body.decode("utf-8", "replace")
            values.update(parse_qsl(text, keep_blank_values=True))
            wire, operation, body = self._decode_query(values)
        shape = self._model.operation_model(operation).input_shape
        if shape is not None:
            # The query protocol's code in every protocol: clients of all three know this one.
            check(shape, body, "ValidationError")
        return wire, operation, body

    def _decode_query(self, values: Mapping[str, str]) -> tuple[Wire, str, dict[str, Any]]:
        from moto.core.parse import PROTOCOL_PARSERS, RequestParserError  # noqa: PLC0415
        from werkzeug.datastructures import MultiDict  # noqa: PLC0415

        operation = self._known(values.get("Action", ""))
        parser = PROTOCOL_PARSERS["query"](self._model.operation_model(operation))
        try:
            return "query", operation, parser.parse({"values": MultiDict(values)})
        except (RequestParserError, ValueError, TypeError) as error:
            raise AwsError("MalformedInput", f"{operation}: {error}") from error

    def encode(self, wire: Wire, operation: str, result: Mapping[str, Any]) -> Response:
        """The response with `result` (member names; times are datetimes)."""
        request_id = str(uuid.uuid4())
        if wire == "cbor":
            return Response(
                200,
                cbor2.dumps(dict(result), datetime_as_timestamp=True, timezone=dt.UTC),
                {
                    "content-type": "application/cbor",
                    "smithy-protocol": "rpc-v2-cbor",
                    "x-amzn-requestid": request_id,
                },
            )
        if wire == "json":
            return Response(
                200,
                orjson.dumps(result, default=_epoch, option=orjson.OPT_PASSTHROUGH_DATETIME),
                {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": request_id},
            )
        from moto.core.serialize import QuerySerializer, SerializationContext  # noqa: PLC0415

        serializer = QuerySerializer(
            self._model.operation_model(operation), SerializationContext(request_id)
        )
        serialized = serializer.serialize(result)
        body = serialized["body"]
        return Response(
            200,
            body if isinstance(body, bytes) else str(body).encode(),
            {"content-type": "text/xml", "x-amzn-requestid": request_id},
        )

    def _known(self, operation: str) -> str:
        if operation not in self._model.operation_names:
            raise AwsError(
                "UnknownOperationException",
                f"{self._model.service_name} has no operation {operation or '(none)'}",
            )
        return operation

    def _times(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        shape = self._model.operation_model(operation).input_shape
        return body if shape is None else _parse_times(shape, body)


@functools.cache
def protocol(service: str) -> ServiceProtocol:
    """The protocol of a service; models are loaded once."""
    return ServiceProtocol(service)


def _cbor_body(body: bytes) -> dict[str, Any]:
    try:
        value = cbor2.loads(body) if body else {}
    except cbor2.CBORDecodeError as error:
        raise AwsError("SerializationException", f"request body is not CBOR: {error}") from error
    if not isinstance(value, dict):
        raise AwsError("SerializationException", "request body is not a CBOR map")
    return value


def _parse_times(shape: Any, value: Any) -> Any:
    """`value` with numbers and texts in timestamp members made datetimes."""
    if value is None:
        return None
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: _parse_times(shape.members[name], member) if name in shape.members else member
            for name, member in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_parse_times(shape.member, member) for member in value]
    if shape.type_name == "timestamp":
        try:
            if isinstance(value, int | float):
                return dt.datetime.fromtimestamp(value, dt.UTC)
            return dt.datetime.fromisoformat(str(value))
        except (ValueError, OverflowError) as error:
            raise AwsError("SerializationException", f"{value!r} is not a time") from error
    return value


def _epoch(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} has no JSON form")

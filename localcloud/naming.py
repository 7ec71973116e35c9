"""Which operation a request calls, and in which protocol, by botocore's service models."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from localcloud import cbor

if TYPE_CHECKING:
    from localcloud.http import Request

Protocol = Literal["json", "cbor", "query", "ec2", "rest-json", "rest-xml"]

# Signing names whose models have other names; two APIs of Timestream share one.
_MODELS = {
    "monitoring": ("cloudwatch",),
    "timestream": ("timestream-write", "timestream-query"),
    "elasticloadbalancing": ("elbv2", "elb"),
    "states": ("stepfunctions",),
    "email": ("ses",),
    "aps": ("amp",),
    "cognito-idp": ("cognito-idp",),
    "iotdata": ("iot-data",),
}
SIGNING_NAMES = {
    **{model: name for name, models in _MODELS.items() for model in models},
    "timestream": "timestream",
    "monitoring": "monitoring",
}
_CBOR_PATH = re.compile(r"^/service/[^/]+/operation/(\w+)$")
_VARIABLE = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a REST service and what of a request must be there for it to be meant."""

    operation: str
    method: str
    word: str
    path: re.Pattern[str]
    query: tuple[tuple[str, str | None], ...]
    headers: tuple[str, ...]

    def weight(self, query: dict[str, list[str]], headers: dict[str, str]) -> int:
        """How much of the request it explains; -1 where the request lacks something."""
        for name, value in self.query:
            if name not in query or (value is not None and query[name][0] != value):
                return -1
        if any(name not in headers for name in self.headers):
            return -1
        return len(self.query) + len(self.headers)


@functools.cache
def _loader() -> Loader:
    """One loader, for each lists the folders of all services."""
    return Loader()


@functools.cache
def models(service: str) -> tuple[Any, ...]:
    """The models of a signing name in botocore; none where it knows no such service."""
    try:
        return tuple(
            ServiceModel(_loader().load_service_model(name, "service-2"), name)
            for name in _MODELS.get(service, (service,))
        )
    except UnknownServiceError:
        return ()


def operation_names(service: str) -> frozenset[str]:
    """Every operation that AWS documents for a signing name."""
    return frozenset(name for model in models(service) for name in model.operation_names)


def operation_model(service: str, operation: str) -> Any | None:
    """The model of an operation in botocore."""
    for model in models(service):
        if operation in model.operation_names:
            return model.operation_model(operation)
    return None


def operation_of(request: Request) -> str:
    """The operation's name; empty where the request names none that is known."""
    if request.operation:
        return request.operation
    named = _CBOR_PATH.match(request.path)
    if named:
        return named.group(1)
    if protocol_of(request) in {"query", "ec2"}:
        values = dict(parse_qsl(request.query))
        if _is_form(request):
            values.update(parse_qsl(request.body.decode("utf-8", "replace")))
        return values.get("Action", "")
    found = route_of(request)
    return found[0] if found else ""


def protocol_of(request: Request) -> Protocol:
    """The wire protocol that the client of this request reads answers and errors in."""
    if "smithy-protocol" in request.headers:
        return "cbor"
    if request.operation:
        kind = request.headers.get("content-type", "")
        return "cbor" if cbor.is_cbor(kind) else "json"
    if _is_form(request):
        return "ec2" if request.service == "ec2" else "query"
    known = models(request.service)
    if not known:
        # moto takes what names no service for S3; so does an anonymous client of a bucket.
        return "rest-json" if request.service else "rest-xml"
    spoken = str(known[0].metadata.get("protocol", "json"))
    if spoken == "smithy-rpc-v2-cbor":
        return "query" if "query" in known[0].metadata.get("protocols", ()) else "cbor"
    return spoken  # type: ignore[return-value] # botocore's names are ours


def route_of(request: Request) -> tuple[str, dict[str, str]] | None:
    """(operation, path variables) of a request to a REST service."""
    query = parse_qs(request.query, keep_blank_values=True)
    asked = query.get("x-id", [""])[0]
    best: tuple[tuple[int, int, int], str, dict[str, str]] | None = None
    for route in _candidates(request):
        match = route.path.match(request.path)
        weight = route.weight(query, request.headers) if match else -1
        if match is None or weight < 0:
            continue
        rank = (int(route.operation == asked), weight, -len(route.operation))
        if best is None or rank > best[0]:
            found = {name: unquote(value) for name, value in match.groupdict().items()}
            best = (rank, route.operation, found)
    return best[1:] if best else None


def rest_paths(service: str) -> list[tuple[str, str, str]]:
    """(operation, method, a path that calls it) of every operation of a REST service."""
    return [
        (
            name,
            model.operation_model(name).http["method"],
            _VARIABLE.sub("x", model.operation_model(name).http["requestUri"].partition("?")[0]),
        )
        for model in models(service)
        for name in model.operation_names
    ]


def _candidates(request: Request) -> tuple[Route, ...]:
    """The routes that a request's method and the first word of its path leave."""
    by_word = _routes_by_word(request.service or "s3")
    word = request.path.partition("/")[2].partition("/")[0]
    named = by_word.get((request.method, word), ()) if word else ()
    return named + by_word.get((request.method, ""), ())


@functools.cache
def _routes_by_word(service: str) -> dict[tuple[str, str], tuple[Route, ...]]:
    """Routes by method and first word of their paths; "" where that is a variable or nothing."""
    found: dict[tuple[str, str], tuple[Route, ...]] = {}
    for route in _routes(service):
        place = (route.method, route.word)
        found[place] = (*found.get(place, ()), route)
    return found


@functools.cache
def _routes(service: str) -> tuple[Route, ...]:
    known = models(service)
    if not known or not str(known[0].metadata.get("protocol", "")).startswith("rest"):
        return ()
    return tuple(
        _route(model.operation_model(name)) for model in known for name in model.operation_names
    )


def _route(operation: Any) -> Route:
    path, _, literal = operation.http["requestUri"].partition("?")
    query: list[tuple[str, str | None]] = [
        (name, value or None) for name, value in parse_qsl(literal, keep_blank_values=True)
    ]
    headers = []
    shape = operation.input_shape
    for name in shape.required_members if shape else ():
        where = shape.members[name].serialization
        if where.get("location") == "querystring":
            query.append((where["name"], None))
        elif where.get("location") == "header":
            headers.append(where["name"].lower())
    pattern, position = "", 0
    for variable in _VARIABLE.finditer(path):
        pattern += re.escape(path[position : variable.start()])
        pattern += f"(?P<{variable.group(1)}>{'.+' if variable.group(2) else '[^/]+'})"
        position = variable.end()
    pattern += re.escape(path[position:])
    word = path.partition("/")[2].partition("/")[0]
    return Route(
        operation.name,
        operation.http["method"],
        "" if "{" in word else word,
        re.compile(f"^{pattern.rstrip('/')}/?$"),
        tuple((name, value) for name, value in query if name != "x-id"),
        tuple(headers),
    )


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")

"""The Lambda API: REST routes onto functions and event source mappings."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import orjson

from localcloud.arn import arn
from localcloud.functions import function as functions
from localcloud.functions import mapping as mappings
from localcloud.functions.function import Function
from localcloud.functions.logs import FunctionLogs
from localcloud.functions.mapping import EventSourceMapping
from localcloud.http import AwsError, Response, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.http import Request
    from localcloud.seams import CloudContext, StreamSource

log = logging.getLogger(__name__)

REAP_S = 30.0
JSON = "application/json"
Route = tuple[str, str, "Callable[[Request, dict[str, str]], Awaitable[Response]]"]
_FUNCTION = r"/functions/(?P<name>[^/]+)"


class LambdaService:
    """Lambda: zip functions in Python, Kinesis event source mappings, `$LATEST` only."""

    signing_names = ("lambda",)

    def __init__(self, context: CloudContext, streams: StreamSource) -> None:
        self._context = context
        self._streams = streams
        self._logs = FunctionLogs(context)
        self._functions: dict[str, Function] = {}
        self._mappings: dict[str, EventSourceMapping] = {}
        self._task: asyncio.Task[None] | None = None
        self._events: set[asyncio.Task[Any]] = set()
        routes: list[Route] = [
            ("POST", r"/functions", self._create),
            ("GET", r"/functions", self._list),
            ("GET", _FUNCTION, self._get),
            ("DELETE", _FUNCTION, self._delete),
            ("GET", _FUNCTION + "/configuration", self._get_configuration),
            ("PUT", _FUNCTION + "/configuration", self._update_configuration),
            ("PUT", _FUNCTION + "/code", self._update_code),
            ("GET", _FUNCTION + "/versions", self._list_versions),
            ("GET", _FUNCTION + "/code-signing-config", self._code_signing),
            ("GET", _FUNCTION + "/runtime-management-config", self._runtime_management),
            ("GET", _FUNCTION + "/recursion-config", self._recursion),
            ("PUT", _FUNCTION + "/concurrency", self._put_concurrency),
            ("GET", _FUNCTION + "/concurrency", self._get_concurrency),
            ("DELETE", _FUNCTION + "/concurrency", self._delete_concurrency),
            ("POST", _FUNCTION + "/policy", self._add_permission),
            ("GET", _FUNCTION + "/policy", self._get_policy),
            ("DELETE", _FUNCTION + "/policy/(?P<sid>[^/]+)", self._remove_permission),
            ("POST", _FUNCTION + "/invocations", self._invoke),
            ("POST", r"/event-source-mappings", self._create_mapping),
            ("GET", r"/event-source-mappings", self._list_mappings),
            ("GET", r"/event-source-mappings/(?P<uuid>[^/]+)", self._get_mapping),
            ("PUT", r"/event-source-mappings/(?P<uuid>[^/]+)", self._update_mapping),
            ("DELETE", r"/event-source-mappings/(?P<uuid>[^/]+)", self._delete_mapping),
            ("GET", r"/tags/(?P<arn>.+)", self._list_tags),
            ("POST", r"/tags/(?P<arn>.+)", self._tag),
            ("DELETE", r"/tags/(?P<arn>.+)", self._untag),
        ]
        self._routes = [
            (method, re.compile(rf"^/\d{{4}}-\d\d-\d\d{path}/?$"), answer)
            for method, path, answer in routes
        ]

    async def start(self) -> None:
        """Starts the logs and the end of idle processes."""
        await self._logs.start()
        self._task = asyncio.create_task(self._reap())

    async def stop(self) -> None:
        """Stops mappings and ends every process."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for mapping in self._mappings.values():
            await mapping.stop()
        for task in list(self._events):
            task.cancel()
        for function in self._functions.values():
            await function.close()
        await self._logs.stop()

    def status(self) -> dict[str, Any]:
        """Functions with their processes, mappings with their backlog."""
        return {
            "functions": {name: {"processes": f.processes} for name, f in self._functions.items()},
            "mappings": {
                mapping.uuid: {
                    "function": mapping.function.name,
                    "backlog": mapping.backlog(),
                    "delivered": mapping.delivered,
                    "given_up": mapping.given_up,
                    "last_result": mapping.last_result,
                }
                for mapping in self._mappings.values()
            },
            "emf_samples": self._logs.emf_samples,
            "emf_malformed": self._logs.emf_malformed,
            "log_lines_dropped": self._logs.dropped,
            "runs_under": "the local cloud's own Python, whatever Runtime says",
            "unsupported": ["versions", "aliases", "layers", "images", "SQS sources", "filters"],
        }

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        path = unquote(request.path)
        for method, pattern, answer in self._routes:
            match = pattern.match(path)
            if match and method == request.method:
                try:
                    return await answer(request, match.groupdict())
                except KeyError as error:
                    raise AwsError(
                        "InvalidParameterValueException", f"{error.args[0]} is required"
                    ) from error
        raise AwsError(
            "UnknownOperationException",
            f"Lambda {request.method} {path} is not served locally",
            404,
        )

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_S)
            for function in list(self._functions.values()):
                await function.reap()

    def _find(self, groups: dict[str, str]) -> Function:
        name = groups["name"].rpartition(":function:")[2].partition(":")[0]
        function = self._functions.get(name)
        if function is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"Function not found: {self._arn(name)}",
                404,
                Type="User",
            )
        return function

    def _arn(self, name: str) -> str:
        return arn("lambda", self._context.region, self._context.account_id, f"function:{name}")

    # Functions

    async def _create(self, request: Request, _: dict[str, str]) -> Response:
        body = request.json()
        functions.check_settings(body)
        name = body["FunctionName"].rpartition(":function:")[2]
        if name in self._functions:
            raise AwsError("ResourceConflictException", f"Function already exist: {name}", 409)
        for required in ("Runtime", "Handler", "Role"):
            if not body.get(required):
                raise AwsError("InvalidParameterValueException", f"{required} is required")
        function = Function(self._context, self._logs, name, self._arn(name), {})
        function.set_code(await self._archive(body["Code"]))
        function.update(body)
        function.tags.update(body.get("Tags") or {})
        self._functions[name] = function
        return json_response(function.describe(), 201, JSON)

    async def _archive(self, code: dict[str, Any]) -> bytes:
        if code.get("ZipFile"):
            try:
                return base64.b64decode(code["ZipFile"], validate=True)
            except binascii.Error as error:
                raise AwsError("InvalidParameterValueException", "ZipFile is not base64") from error
        if code.get("S3Bucket"):
            s3 = await self._context.client("s3")
            try:
                answer = await s3.get_object(Bucket=code["S3Bucket"], Key=code["S3Key"])
                archive: bytes = await answer["Body"].read()
            except s3.exceptions.ClientError as error:
                raise AwsError(
                    "InvalidParameterValueException",
                    f"Error occurred while GetObject. {error}",
                ) from error
            return archive
        raise AwsError(
            "InvalidParameterValueException", "Code needs ZipFile, or S3Bucket and S3Key"
        )

    async def _list(self, _: Request, __: dict[str, str]) -> Response:
        described = [self._functions[name].describe() for name in sorted(self._functions)]
        return json_response({"Functions": described}, content_type=JSON)

    async def _get(self, _: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        answer: dict[str, Any] = {
            "Configuration": function.describe(),
            "Code": {"RepositoryType": "S3", "Location": f"file://{function.folder}"},
        }
        if function.tags:
            answer["Tags"] = function.tags
        if function.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return json_response(answer, content_type=JSON)

    async def _delete(self, _: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        del self._functions[function.name]
        for mapping in [m for m in self._mappings.values() if m.function is function]:
            await mapping.stop()
            mapping.streams.forget(mapping.source, mapping.uuid)
        await function.close()
        return Response(204)

    async def _get_configuration(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response(self._find(groups).describe(), content_type=JSON)

    async def _update_configuration(self, request: Request, groups: dict[str, str]) -> Response:
        function, body = self._find(groups), request.json()
        functions.check_settings(body)
        function.update(body)
        return json_response(function.describe(), content_type=JSON)

    async def _update_code(self, request: Request, groups: dict[str, str]) -> Response:
        function, body = self._find(groups), request.json()
        archive = await self._archive(body)
        if not body.get("DryRun"):
            function.set_code(archive)
        return json_response(function.describe(), content_type=JSON)

    async def _list_versions(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response({"Versions": [self._find(groups).describe()]}, content_type=JSON)

    async def _code_signing(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response({"FunctionName": self._find(groups).name}, content_type=JSON)

    async def _runtime_management(self, _: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        return json_response(
            {"UpdateRuntimeOn": "Auto", "FunctionArn": function.arn}, content_type=JSON
        )

    async def _recursion(self, _: Request, groups: dict[str, str]) -> Response:
        self._find(groups)
        return json_response({"RecursiveLoop": "Terminate"}, content_type=JSON)

    async def _put_concurrency(self, request: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        function.reserved = int(request.json()["ReservedConcurrentExecutions"])
        return await self._get_concurrency(request, groups)

    async def _get_concurrency(self, _: Request, groups: dict[str, str]) -> Response:
        reserved = self._find(groups).reserved
        answer = {} if reserved is None else {"ReservedConcurrentExecutions": reserved}
        return json_response(answer, content_type=JSON)

    async def _delete_concurrency(self, _: Request, groups: dict[str, str]) -> Response:
        self._find(groups).reserved = None
        return Response(204)

    async def _add_permission(self, request: Request, groups: dict[str, str]) -> Response:
        function, body = self._find(groups), request.json()
        sid = body["StatementId"]
        if sid in function.policy:
            raise AwsError(
                "ResourceConflictException",
                f"The statement id ({sid}) provided already exists.",
                409,
            )
        statement: dict[str, Any] = {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": body["Principal"]},
            "Action": body["Action"],
            "Resource": function.arn,
        }
        if body.get("SourceArn"):
            statement["Condition"] = {"ArnLike": {"AWS:SourceArn": body["SourceArn"]}}
        function.policy[sid] = statement
        return json_response({"Statement": json.dumps(statement)}, 201, JSON)

    async def _get_policy(self, _: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        if not function.policy:
            raise AwsError(
                "ResourceNotFoundException", "The resource you requested does not exist.", 404
            )
        policy = {
            "Version": "2012-10-17",
            "Id": "default",
            "Statement": list(function.policy.values()),
        }
        return json_response(
            {"Policy": json.dumps(policy), "RevisionId": function.revision}, content_type=JSON
        )

    async def _remove_permission(self, _: Request, groups: dict[str, str]) -> Response:
        if self._find(groups).policy.pop(groups["sid"], None) is None:
            raise AwsError(
                "ResourceNotFoundException", f"Statement {groups['sid']} is not found", 404
            )
        return Response(204)

    async def _invoke(self, request: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        event = request.body or b"{}"
        try:
            orjson.loads(event)
        except orjson.JSONDecodeError as error:
            raise AwsError(
                "InvalidRequestContentException", f"Could not parse request body into json: {error}"
            ) from error
        if kind == "DryRun":
            return Response(204)
        if kind == "Event":
            task = asyncio.create_task(function.invoke(event))
            self._events.add(task)
            task.add_done_callback(self._events.discard)
            return Response(202)
        result = await function.invoke(event)
        headers = {"content-type": JSON, "x-amz-executed-version": "$LATEST",
                   "x-amzn-requestid": result.request_id}  # fmt: skip
        if result.error:
            headers["x-amz-function-error"] = result.error
        if request.headers.get("x-amz-log-type") == "Tail":
            headers["x-amz-log-result"] = base64.b64encode(
                result.log_tail.encode()[-4096:]
            ).decode()
        return Response(200, result.payload, headers)

    # Event source mappings

    async def _create_mapping(self, request: Request, _: dict[str, str]) -> Response:
        body = request.json()
        mappings.check_settings(body)
        function = self._find({"name": body["FunctionName"]})
        source = body["EventSourceArn"]
        for mapping in self._mappings.values():
            if mapping.source == source and mapping.function is function:
                raise AwsError(
                    "ResourceConflictException",
                    f'The event source arn (" {source} ") and function (" {function.name} ") '
                    f"provided mapping already exists. UUID {mapping.uuid}",
                    409,
                )
        try:
            self._streams.shard_ids(source)
        except AwsError as error:
            raise AwsError("InvalidParameterValueException", error.message) from error
        if not body.get("StartingPosition"):
            raise AwsError("InvalidParameterValueException", "StartingPosition is required")
        mapping = EventSourceMapping(
            self._context,
            self._streams,
            function,
            source,
            _mapping_settings(body),
            enabled=body.get("Enabled") is not False,
            tags=dict(body.get("Tags") or {}),
        )
        mapping.begin()
        self._mappings[mapping.uuid] = mapping
        return json_response(mapping.describe(), 202, JSON)

    def _mapping(self, groups: dict[str, str]) -> EventSourceMapping:
        mapping = self._mappings.get(groups["uuid"])
        if mapping is None:
            raise AwsError(
                "ResourceNotFoundException",
                "The resource you requested does not exist.",
                404,
                Type="User",
            )
        return mapping

    async def _list_mappings(self, request: Request, _: dict[str, str]) -> Response:
        wanted = parse_qs(request.query)
        name = wanted.get("FunctionName", [""])[0].rpartition(":function:")[2]
        source = wanted.get("EventSourceArn", [""])[0]
        found = [
            mapping.describe()
            for mapping in self._mappings.values()
            if (not name or mapping.function.name == name)
            and (not source or mapping.source == source)
        ]
        return json_response({"EventSourceMappings": found}, content_type=JSON)

    async def _get_mapping(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response(self._mapping(groups).describe(), content_type=JSON)

    async def _update_mapping(self, request: Request, groups: dict[str, str]) -> Response:
        mapping, body = self._mapping(groups), request.json()
        mappings.check_settings(body)
        if body.get("FunctionName"):
            mapping.function = self._find({"name": body["FunctionName"]})
        enabled = mapping.enabled if body.get("Enabled") is None else bool(body["Enabled"])
        await mapping.change(_mapping_settings(body), enabled=enabled)
        return json_response(mapping.describe(), 202, JSON)

    async def _delete_mapping(self, _: Request, groups: dict[str, str]) -> Response:
        mapping = self._mapping(groups)
        await mapping.stop()
        mapping.streams.forget(mapping.source, mapping.uuid)
        del self._mappings[mapping.uuid]
        return json_response({**mapping.describe(), "State": "Deleting"}, 202, JSON)

    # Tags

    def _tags(self, groups: dict[str, str]) -> dict[str, str]:
        resource = groups["arn"]
        if ":event-source-mapping:" in resource:
            return self._mapping({"uuid": resource.rpartition(":")[2]}).tags
        return self._find({"name": resource}).tags

    async def _list_tags(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response({"Tags": self._tags(groups)}, content_type=JSON)

    async def _tag(self, request: Request, groups: dict[str, str]) -> Response:
        self._tags(groups).update(request.json()["Tags"])
        return Response(204)

    async def _untag(self, request: Request, groups: dict[str, str]) -> Response:
        tags = self._tags(groups)
        for key in parse_qs(request.query).get("tagKeys", []):
            tags.pop(key, None)
        return Response(204)


def _mapping_settings(body: dict[str, Any]) -> dict[str, Any]:
    names = (*mappings.DEFAULTS, "StartingPositionTimestamp")
    return {name: body[name] for name in names if body.get(name) is not None}

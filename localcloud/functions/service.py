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
from localcloud.durable import moment
from localcloud.functions.events import Event, EventQueue, check_config
from localcloud.functions.function import Function
from localcloud.functions.function_settings import check_settings
from localcloud.functions.logs import FunctionLogs
from localcloud.functions.mapping_api import MappingApi
from localcloud.functions.operations import name_of
from localcloud.functions.paging import page
from localcloud.http import AwsError, Response, json_response
from localcloud.naming import rest_paths

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.http import Request
    from localcloud.seams import CloudContext, LogSink, StreamSource

log = logging.getLogger(__name__)

REAP_S = 30.0
MAX_PAGE = 50
# AWS's default quota of an account, and what of it no function may reserve.
ACCOUNT_CONCURRENCY = 1000
MIN_UNRESERVED = 100
JSON = "application/json"
Route = tuple[str, str, "Callable[[Request, dict[str, str]], Awaitable[Response]]"]
_FUNCTION = r"/functions/(?P<name>[^/]+)"


class LambdaService:
    """Lambda: zip functions in Python, Kinesis event source mappings, `$LATEST` only."""

    signing_names = ("lambda",)

    def __init__(self, context: CloudContext, streams: StreamSource, sink: LogSink) -> None:
        self._context = context
        self._logs = FunctionLogs(context, sink)
        self._functions: dict[str, Function] = {}
        self._mappings = MappingApi(context, streams, lambda name: self._find({"name": name}))
        self._events = EventQueue(context)
        self._task: asyncio.Task[None] | None = None
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
            ("PUT", _FUNCTION + "/event-invoke-config", self._put_event_config),
            ("POST", _FUNCTION + "/event-invoke-config", self._update_event_config),
            ("GET", _FUNCTION + "/event-invoke-config", self._get_event_config),
            ("DELETE", _FUNCTION + "/event-invoke-config", self._delete_event_config),
            ("GET", _FUNCTION + "/event-invoke-config/list", self._list_event_configs),
            ("GET", r"/account-settings", self._account_settings),
            *self._mappings.routes(),
            ("GET", r"/tags/(?P<arn>.+)", self._list_tags),
            ("POST", r"/tags/(?P<arn>.+)", self._tag),
            ("DELETE", r"/tags/(?P<arn>.+)", self._untag),
        ]
        self._routes = [
            (method, re.compile(rf"^/\d{{4}}-\d\d-\d\d{path}/?$"), answer)
            for method, path, answer in routes
        ]

    async def restore(self) -> None:
        """Lets mappings go on where they were; asynchronous events that waited are not kept."""
        self._mappings.restore()

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
        await self._mappings.stop()
        await self._events.stop()
        for function in self._functions.values():
            await function.close()
        await self._logs.stop()

    def status(self) -> dict[str, Any]:
        """Functions with their processes, mappings with their backlog."""
        return {
            "functions": {name: {"processes": f.processes} for name, f in self._functions.items()},
            "mappings": self._mappings.status(),
            "events_waiting": self._events.waiting,
            "emf_samples": self._logs.emf_samples,
            "emf_malformed": self._logs.emf_malformed,
            "log_lines_dropped": self._logs.dropped,
            "log_lines_refused": self._logs.last_refusal,
            "runs_under": "the local cloud's own Python, whatever Runtime says",
            "unsupported": [
                "versions and aliases",
                "layers",
                "images",
                "runtimes other than Python",
                "SnapStart",
                "VPC, EFS, X-Ray, function URLs, response streams, provisioned concurrency",
                "sources other than Kinesis streams, enhanced fan-out",
                "the file system and the network of functions are the host's",
            ],
        }

    def operations(self) -> frozenset[str]:
        """See `Service`."""
        return frozenset(
            name
            for name, method, path in rest_paths("lambda")
            if any(method == known and route.match(path) for known, route, _ in self._routes)
        )

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        path = unquote(request.path)
        qualifier = parse_qs(request.query).get("Qualifier", ["$LATEST"])[0]
        for method, pattern, answer in self._routes:
            match = pattern.match(path)
            if match and method == request.method:
                groups = match.groupdict()
                if "name" in groups and qualifier != "$LATEST":
                    groups["name"] = f"{groups['name'].partition(':$LATEST')[0]}:{qualifier}"
                try:
                    return await answer(request, groups)
                except KeyError as error:
                    raise AwsError(
                        "InvalidParameterValueException", f"{error.args[0]} is required"
                    ) from error
        name = name_of(request.method, path)
        if name:
            raise AwsError("InvalidParameterValueException", f"{name} is not supported locally")
        raise AwsError(
            "UnknownOperationException", f"Lambda has no operation {request.method} {path}", 404
        )

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_S)
            for function in list(self._functions.values()):
                await function.reap()

    def _find(self, groups: dict[str, str]) -> Function:
        given = groups["name"].rpartition(":function:")[2]
        name, _, qualifier = given.partition(":")
        function = self._functions.get(name)
        # There are no versions and aliases, so that every other qualifier is one of nothing.
        if function is None or qualifier not in {"", "$LATEST"}:
            raise AwsError(
                "ResourceNotFoundException",
                f"Function not found: {self._arn(given)}",
                404,
                Type="User",
            )
        return function

    def _arn(self, name: str) -> str:
        return arn("lambda", self._context.region, self._context.account_id, f"function:{name}")

    # Functions

    async def _create(self, request: Request, _: dict[str, str]) -> Response:
        body = request.json()
        check_settings(body)
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

    async def _list(self, request: Request, _: dict[str, str]) -> Response:
        described = [self._functions[name].describe() for name in sorted(self._functions)]
        return json_response(page(request, "Functions", described, MAX_PAGE), content_type=JSON)

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
        await self._mappings.function_deleted(function)
        await function.close()
        return Response(204)

    async def _get_configuration(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response(self._find(groups).describe(), content_type=JSON)

    async def _update_configuration(self, request: Request, groups: dict[str, str]) -> Response:
        function, body = self._find(groups), request.json()
        check_settings(body)
        _check_revision(function, body)
        function.update(body)
        return json_response(function.describe(), content_type=JSON)

    async def _update_code(self, request: Request, groups: dict[str, str]) -> Response:
        function, body = self._find(groups), request.json()
        _check_revision(function, body)
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
        wanted = int(request.json()["ReservedConcurrentExecutions"])
        others = sum(f.reserved or 0 for f in self._functions.values() if f is not function)
        if wanted < 0 or ACCOUNT_CONCURRENCY - others - wanted < MIN_UNRESERVED:
            raise AwsError(
                "InvalidParameterValueException",
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{MIN_UNRESERVED}].",
            )
        function.reserved = wanted
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
            queued = Event(function, event)
            self._events.put(queued)
            return Response(202, b"", {"x-amzn-requestid": queued.request_id})
        if kind != "RequestResponse":
            raise AwsError("InvalidParameterValueException", f"InvocationType {kind} is unknown")
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

    # Asynchronous invocation

    def _event_config(self, function: Function) -> dict[str, Any]:
        if not function.event_config_modified_s:
            raise AwsError(
                "ResourceNotFoundException",
                f"The function {function.arn}:$LATEST doesn't have an EventInvokeConfig",
                404,
                Type="User",
            )
        return {
            "FunctionArn": f"{function.arn}:$LATEST",
            "LastModified": function.event_config_modified_s,
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
            **function.event_config,
        }

    async def _put_event_config(self, request: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        function.event_config = check_config(request.json())
        function.event_config_modified_s = moment.now_s()
        return json_response(self._event_config(function), content_type=JSON)

    async def _update_event_config(self, request: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        self._event_config(function)
        function.event_config.update(check_config(request.json()))
        function.event_config_modified_s = moment.now_s()
        return json_response(self._event_config(function), content_type=JSON)

    async def _get_event_config(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response(self._event_config(self._find(groups)), content_type=JSON)

    async def _delete_event_config(self, _: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        self._event_config(function)
        function.event_config, function.event_config_modified_s = {}, 0.0
        return Response(204)

    async def _list_event_configs(self, request: Request, groups: dict[str, str]) -> Response:
        function = self._find(groups)
        found = [self._event_config(function)] if function.event_config_modified_s else []
        answer = page(request, "FunctionEventInvokeConfigs", found, MAX_PAGE)
        return json_response(answer, content_type=JSON)

    async def _account_settings(self, _: Request, __: dict[str, str]) -> Response:
        functions = self._functions.values()
        reserved = sum(function.reserved or 0 for function in functions)
        size = sum(function.code_size for function in functions)
        return json_response(
            {
                "AccountLimit": {
                    "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
                    "UnreservedConcurrentExecutions": ACCOUNT_CONCURRENCY - reserved,
                },
                "AccountUsage": {"FunctionCount": len(self._functions), "TotalCodeSize": size},
            },
            content_type=JSON,
        )

    # Tags

    def _tags(self, groups: dict[str, str]) -> dict[str, str]:
        resource = groups["arn"]
        if ":event-source-mapping:" in resource:
            return self._mappings.get(resource.rpartition(":")[2]).tags
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


def _check_revision(function: Function, body: dict[str, Any]) -> None:
    if body.get("RevisionId") not in {None, "", function.revision}:
        raise AwsError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the "
            "GetFunction/GetAlias API to retrieve the latest Revision Id",
            412,
        )

"""The part of the Lambda API that is about event source mappings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from localcloud.access.needs import READ_STREAM
from localcloud.functions import mapping_settings
from localcloud.functions.mapping import EventSourceMapping
from localcloud.functions.paging import page
from localcloud.http import AwsError, Response, json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.functions.function import Function
    from localcloud.http import Request
    from localcloud.seams import CloudContext, StreamSource

JSON = "application/json"
MAX_PAGE = 100
_MAPPINGS = r"/event-source-mappings"
_MAPPING = r"/event-source-mappings/(?P<uuid>[^/]+)"


class MappingApi:
    """Event source mappings by UUID.

    Args:
        context: The cloud.
        streams: What they read.
        find: Gives a function by its name or ARN.
    """

    def __init__(
        self, context: CloudContext, streams: StreamSource, find: Callable[[str], Function]
    ) -> None:
        self._context = context
        self._streams = streams
        self._find = find
        self.mappings: dict[str, EventSourceMapping] = {}

    def routes(
        self,
    ) -> list[tuple[str, str, Callable[[Request, dict[str, str]], Awaitable[Response]]]]:
        """(method, path, what answers it)."""
        return [
            ("POST", _MAPPINGS, self._create),
            ("GET", _MAPPINGS, self._list),
            ("GET", _MAPPING, self._get),
            ("PUT", _MAPPING, self._update),
            ("DELETE", _MAPPING, self._delete),
        ]

    def status(self) -> dict[str, Any]:
        """Mappings with their backlog."""
        return {
            mapping.uuid: {
                "function": mapping.function.name,
                "backlog": mapping.backlog(),
                "delivered": mapping.delivered,
                "filtered": mapping.filtered,
                "given_up": mapping.given_up,
                "last_result": mapping.last_result,
            }
            for mapping in self.mappings.values()
        }

    def restore(self) -> None:
        """Lets all of them go on from what was kept."""
        for mapping in self.mappings.values():
            mapping.restore()

    async def stop(self) -> None:
        """Stops all of them."""
        for mapping in self.mappings.values():
            await mapping.stop()

    def get(self, uuid: str) -> EventSourceMapping:
        """One of them.

        Raises:
            AwsError: ResourceNotFoundException.
        """
        mapping = self.mappings.get(uuid)
        if mapping is None:
            raise AwsError(
                "ResourceNotFoundException",
                "The resource you requested does not exist.",
                404,
                Type="User",
            )
        return mapping

    async def function_deleted(self, function: Function) -> None:
        """Stops the mappings of a function that is gone; they stay, as AWS keeps them."""
        for mapping in self.mappings.values():
            if mapping.function is function:
                await mapping.stop()
                mapping.streams.forget(mapping.source, mapping.uuid)
                mapping.last_result = "PROBLEM: Lambda Function Not Found"

    async def _create(self, request: Request, _: dict[str, str]) -> Response:
        body = request.json()
        settings = mapping_settings.of_body(body)
        function = self._find(body["FunctionName"])
        source = body["EventSourceArn"]
        for mapping in self.mappings.values():
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
        mapping_settings.check_together(settings)
        mapping = EventSourceMapping(
            self._context,
            self._streams,
            function,
            source,
            settings,
            enabled=body.get("Enabled") is not False,
            tags=dict(body.get("Tags") or {}),
        )
        _check_role(mapping)
        mapping.begin()
        self.mappings[mapping.uuid] = mapping
        return json_response({**mapping.describe(), "State": "Creating"}, 202, JSON)

    async def _list(self, request: Request, _: dict[str, str]) -> Response:
        wanted = parse_qs(request.query)
        name = wanted.get("FunctionName", [""])[0].rpartition(":function:")[2]
        source = wanted.get("EventSourceArn", [""])[0]
        found = [
            mapping.describe()
            for mapping in self.mappings.values()
            if (not name or mapping.function.name == name.partition(":")[0])
            and (not source or mapping.source == source)
        ]
        return json_response(
            page(request, "EventSourceMappings", found, MAX_PAGE), content_type=JSON
        )

    async def _get(self, _: Request, groups: dict[str, str]) -> Response:
        return json_response(self.get(groups["uuid"]).describe(), content_type=JSON)

    async def _update(self, request: Request, groups: dict[str, str]) -> Response:
        mapping, body = self.get(groups["uuid"]), request.json()
        settings = mapping_settings.of_body(body)
        function = self._find(body["FunctionName"]) if body.get("FunctionName") else None
        enabled = mapping.enabled if body.get("Enabled") is None else bool(body["Enabled"])
        await mapping.change(settings, enabled=enabled, function=function)
        return json_response(mapping.describe(), 202, JSON)

    async def _delete(self, _: Request, groups: dict[str, str]) -> Response:
        mapping = self.get(groups["uuid"])
        await mapping.stop()
        mapping.streams.forget(mapping.source, mapping.uuid)
        self.mappings.pop(mapping.uuid, None)
        return json_response({**mapping.describe(), "State": "Deleting"}, 202, JSON)


def _check_role(mapping: EventSourceMapping) -> None:
    """Refuses a mapping whose function's role may not read its stream or tell of its failures."""
    if mapping.read_refusal(READ_STREAM) is not None:
        raise AwsError(
            "InvalidParameterValueException",
            f"Cannot access stream {mapping.source}. Please ensure the role can perform the "
            "GetRecords, GetShardIterator, DescribeStream, ListShards Actions on your stream in "
            "IAM.",
        )
    access = mapping.context.access
    on_failure = (mapping.settings.get("DestinationConfig") or {}).get("OnFailure") or {}
    target = str(on_failure.get("Destination") or "")
    service = target.split(":")[2] if target.count(":") > 1 else ""
    if not access.enabled or service not in {"sqs", "sns"}:
        return
    action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}[service]
    try:
        access.require(service, access.needs.destination(target), mapping.function.acting)
    except AwsError as error:
        verb, kind = action.partition(":")[2], service.upper()
        raise AwsError(
            "InvalidParameterValueException",
            f"The provided execution role does not have permissions to call {verb} on {kind}",
        ) from error

"""What moto answers wrongly or not at all, and a client that we promise to serve asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl, unquote

from localcloud.http import AwsError, Response, json_response
from localcloud.naming import operation_model, route_of
from localcloud.validation import check

if TYPE_CHECKING:
    from localcloud.http import Request
    from localcloud.moto_backend import MotoBackend

JSON = "application/json"
_CREATED = re.compile(r"^/(thing-types|thing-groups|policies|rules)/([^/]+)/?$")
_ARN_KINDS = {
    "thing-types": "thingtype", "thing-groups": "thinggroup", "policies": "policy", "rules": "rule",
}  # fmt: skip


def store_bucket_policies_only() -> None:
    """Keeps moto from enforcing S3 bucket policies.

    It denies whatever a statement with a condition is about, met or not: the usual refusal of
    requests without TLS would refuse every request. `access` enforces them instead.
    """
    from moto.iam.access_control import PermissionResult  # noqa: PLC0415 - slow
    from moto.s3.models import FakeBucket  # noqa: PLC0415

    def neutral(_bucket: FakeBucket, _action: str, _resource: str) -> PermissionResult:
        return PermissionResult.NEUTRAL

    FakeBucket.get_permission = neutral  # the gap itself


class MotoGaps:
    """moto with its gaps filled: tags of IoT resources, which moto 5.2 does not keep.

    Args:
        moto: Who answers everything else.
        region: Region in ARNs.
        account_id: Account in ARNs.
    """

    def __init__(self, moto: MotoBackend, region: str, account_id: str) -> None:
        self._moto = moto
        store_bucket_policies_only()
        self._arn = f"arn:aws:iot:{region}:{account_id}:"
        self._iot_tags: dict[str, dict[str, str]] = {}

    async def handle(self, request: Request) -> Response:
        """Answers a request."""
        if request.service != "iot":
            return await self._moto.handle(request)
        if request.path.rstrip("/") in {"/tags", "/untag"}:
            return self._tags(request)
        response = await self._moto.handle(request)
        created = _CREATED.match(request.path)
        if created and response.status < 300:  # noqa: PLR2004 - HTTP's classes
            self._remember(request, created)
        return response

    def _tags(self, request: Request) -> Response:
        if request.method == "GET":
            arn = parse_qs(request.query).get("resourceArn", [""])[0]
            tags = [{"Key": k, "Value": v} for k, v in sorted(self._iot_tags.get(arn, {}).items())]
            return json_response({"tags": tags}, content_type=JSON)
        body = request.json()
        found = route_of(request)
        model = operation_model("iot", found[0]) if found else None
        if model is None:
            raise AwsError("InvalidRequestException", "tags take GET and POST")
        check(model.input_shape, body, "InvalidRequestException")
        tags_of = self._iot_tags.setdefault(body["resourceArn"], {})
        if request.path.startswith("/untag"):
            for key in body["tagKeys"]:
                tags_of.pop(key, None)
        else:
            tags_of.update({tag["Key"]: tag.get("Value", "") for tag in body["tags"]})
        return json_response({}, content_type=JSON)

    def _remember(self, request: Request, created: re.Match[str]) -> None:
        """Keeps the tags that a creating call carries; forgets those of what is deleted."""
        kind, name = created.groups()
        arn = f"{self._arn}{_ARN_KINDS[kind]}/{unquote(name)}"
        if request.method == "DELETE":
            self._iot_tags.pop(arn, None)
        elif request.method == "POST":
            header = request.headers.get("x-amz-tagging")
            if header:
                self._iot_tags[arn] = dict(parse_qsl(header))
            elif b'"tags"' in request.body:
                tags = [tag for tag in request.json().get("tags") or [] if "Key" in tag]
                self._iot_tags[arn] = {tag["Key"]: tag.get("Value", "") for tag in tags}

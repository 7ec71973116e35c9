"""What moto answers wrongly or not at all, and a client that we promise to serve asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.http import json_response

if TYPE_CHECKING:
    from localcloud.http import Request, Response
    from localcloud.moto_backend import MotoBackend

_IOT_TAGS = re.compile(r"^/tags/?$")


class MotoGaps:
    """moto with its gaps filled."""

    def __init__(self, moto: MotoBackend) -> None:
        self._moto = moto

    async def handle(self, request: Request) -> Response:
        """Answers a request."""
        if request.service == "iot" and request.method == "GET" and _IOT_TAGS.match(request.path):
            # moto 5.2 answers 500. It keeps no tags for IoT resources, so there are none to list.
            return json_response({"tags": []}, content_type="application/json")
        return await self._moto.handle(request)

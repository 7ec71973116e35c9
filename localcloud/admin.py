"""The admin API under `/_fleetcast/`: what the cloud tells of itself, and its faults.

Web pages must not reach it: a name that was made to point at this machine (DNS rebinding) shows in
Host, a page of another site (CSRF) in Origin or Sec-Fetch-Site, and a form cannot send JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from localcloud.faults import spec
from localcloud.http import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.faults.board import FaultBoard

PREFIX = "/_fleetcast/"
LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}
MAX_BODY_BYTES = 64 * 1024


class Admin:
    """Answers admin requests.

    Args:
        pages: What GET shows, by the path after the prefix, each giving a JSON value.
        faults: The faults.
    """

    def __init__(self, pages: Mapping[str, Callable[[], Any]], faults: FaultBoard) -> None:
        self._pages = pages
        self._faults = faults

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answers one request."""
        refusal = _foreign(headers)
        if refusal:
            return _error(403, refusal)
        page = path.removeprefix(PREFIX).rstrip("/")
        kind, _, rest = page.partition("/")
        if kind == "faults":
            return self._answer_faults(method, rest, headers, body)
        show = self._pages.get(page)
        if show is None:
            known = ", ".join(sorted([*self._pages, "faults"]))
            return _error(404, f"no such admin page: there are {known}")
        if method not in {"GET", "HEAD"}:
            return _error(405, f"{page} can only be read", allow="GET, HEAD")
        return _json(show())

    def _answer_faults(
        self, method: str, fault_id: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        if method == "POST" and not fault_id:
            return self._add(headers, body)
        if fault_id and self._faults.get(fault_id) is None:
            return _error(404, f"no fault {fault_id}")
        if method in {"GET", "HEAD"}:
            told = self._faults.describe()
            if fault_id:
                return _json(next(fault for fault in told if fault["id"] == fault_id))
            return _json({"faults": told})
        if method == "DELETE":
            return _json({"cleared": self._faults.clear(fault_id or None)})
        return _error(405, "faults take GET, POST and DELETE", allow="GET, HEAD, POST, DELETE")

    def _add(self, headers: Mapping[str, str], body: bytes) -> Response:
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _error(415, "send the fault as application/json")
        if len(body) > MAX_BODY_BYTES:
            return _error(413, f"a fault has at most {MAX_BODY_BYTES} bytes")
        try:
            fault = self._faults.add(spec.parse(orjson.loads(body)))
        except orjson.JSONDecodeError as error:
            return _error(400, f"the fault is not JSON: {error}")
        except ValueError as error:
            return _error(400, str(error))
        told = next(one for one in self._faults.describe() if one["id"] == fault.id)
        return _json(told, 201)


def _foreign(headers: Mapping[str, str]) -> str:
    """Why a request comes from elsewhere; empty where it does not."""
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name not in LOOPBACK_HOSTS:
        return "the admin API answers loopback hosts only"
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return "the admin API answers no pages of other origins"
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return "the admin API answers no pages of other sites"
    return ""


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        status,
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS),
        {"content-type": "application/json", "cache-control": "no-store"},
    )


def _error(status: int, message: str, **headers: str) -> Response:
    return Response(
        status, orjson.dumps({"error": message}), {"content-type": "application/json", **headers}
    )

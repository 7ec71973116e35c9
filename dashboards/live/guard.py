"""Who may talk to the page's server, and what the page itself may do.

The server has the credentials of whoever started it, so that no other page must reach it: a name
that was made to point at this machine (DNS rebinding) shows in Host, a page of another site (CSRF)
in Origin or Sec-Fetch-Site, and no form can send JSON. Others who have an account on this machine can
send what they like, but not the token, which only the page's address has.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}
# Plotly sets styles; everything else comes from this server or not at all.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
# A report runs scripts of its own: it may, but not as a page of this server.
REPORT_POLICY = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
# What is the same for everybody, and tells nothing of anybody.
OPEN = {"/", "/static/{name}"}
UNKNOWN = (
    "this needs the token of the page's address: open the address that fleetcast dashboard printed"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Token:
    """The secret of one server, as long as it runs.

    Attributes:
        text: What a request of the API has in its Authorization header, after `Bearer`.
    """

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(24)

    def report(self, run_id: str) -> str:
        """The path of a run's report. A link has no header, so that it has a key for this report."""
        return f"/runs/{run_id}/report.html?key={self._key(run_id)}"

    def admits(self, request: web.Request) -> bool:
        """Whether a request may be answered."""
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in OPEN:
            return True
        run_id = request.match_info.get("run")
        if run_id is not None:
            return _same(request.query.get("key", ""), self._key(run_id))
        return _same(request.headers.get("Authorization", ""), f"Bearer {self.text}")

    def _key(self, run_id: str) -> str:
        return hmac.new(self.text.encode(), run_id.encode(), hashlib.sha256).hexdigest()


def _same(told: str, secret: str) -> bool:
    # Takes as long wherever the first difference is.
    return hmac.compare_digest(told.encode(errors="replace"), secret.encode())


def guard(token: Token) -> Middleware:
    """What refuses requests of elsewhere and without the token, and puts policies onto answers."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _foreign(request)
        if refusal:
            return web.json_response({"error": {"told": refusal}}, status=403, headers=_HEADERS)
        if not token.admits(request):
            told = {"told": UNKNOWN, "code": "NoToken"}
            headers = {**_HEADERS, "WWW-Authenticate": "Bearer"}
            return web.json_response({"error": told}, status=401, headers=headers)
        response = await handler(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return guarded


def _foreign(request: web.Request) -> str:
    host = request.headers.get("Host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if name not in LOOPBACK_HOSTS:
        return "this page answers loopback hosts only"
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{host}".lower():
        return "this page's API answers no pages of other origins"
    site = request.headers.get("Sec-Fetch-Site", "none")
    # A link of another site may open the page, and nothing else.
    opened = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path == "/"
    if site not in {"none", "same-origin"} and not opened:
        return "this page's API answers no pages of other sites"
    if request.method == "POST" and request.content_type != "application/json":
        return "send JSON"
    return ""

"""Who may talk to the page's server, and what the page itself may do.

The server has the credentials of whoever started it, so that no other page must reach it: a name
that was made to point at this machine (DNS rebinding) shows in Host, a page of another site (CSRF)
in Origin or Sec-Fetch-Site, and no form can send JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "::1"}
# Plotly sets styles; everything else comes from this server or not at all.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
# A report runs scripts of its own: it may, but not as a page of this server.
REPORT_POLICY = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@web.middleware
async def guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses what comes from elsewhere; puts the policies onto what is answered."""
    refusal = _foreign(request)
    if refusal:
        return web.json_response({"error": {"told": refusal}}, status=403, headers=_HEADERS)
    response = await handler(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response


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

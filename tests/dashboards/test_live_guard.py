"""Who may talk to the page's server, which needs no stack for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from dashboards.live import serve
from fleetcast import cloudctl
from fleetcast.target import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask() -> AsyncIterator[Callable[..., Awaitable[tuple[int, Any, str]]]]:
    target = Target.named("local", port=cloudctl.free_port())
    async with serve(target, "guarded") as served, aiohttp.ClientSession() as session:

        async def send(
            path: str, method: str = "GET", token: dict[str, str] | None = None, **options: Any
        ) -> tuple[int, Any, str]:
            known = {"Authorization": f"Bearer {served.token}"} if token is None else token
            options["headers"] = {**known, **options.get("headers", {})}
            async with session.request(method, served.url + path, **options) as answer:
                return answer.status, answer.headers, await answer.text()

        yield send


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Host": "evil.example"}, "loopback hosts only"),
        ({"Origin": "https://evil.example"}, "no pages of other origins"),
        ({"Origin": "null"}, "no pages of other origins"),
        ({"Sec-Fetch-Site": "cross-site"}, "no pages of other sites"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "no pages of other sites"),
    ],
)
async def test_pages_of_elsewhere_are_refused(ask, headers, told):
    status, _, text = await ask("api/state", headers=headers)
    assert status == 403
    assert told in text
    assert "region" not in text


@pytest.mark.parametrize(
    "token",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer guessed"},
        {"Authorization": "\xff"},
    ],
)
@pytest.mark.parametrize(
    "path",
    ["api/state", "api/runs", "api/nothing", "runs/r-1/report.html", "runs/r-1/report.html?key=x"],
)
async def test_whoever_has_not_the_token_is_told_nothing(ask, path, token):
    status, headers, text = await ask(path, token=token)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "open the address that fleetcast dashboard printed" in text
    assert set(json.loads(text)) == {"error"}


async def test_the_page_itself_needs_no_token(ask):
    for path in ("", "static/main.js"):
        status, _, _ = await ask(path, token={})
        assert status == 200
    first, _, text = await ask("api/state")
    assert (first, "no stack 'guarded'" in text) == (404, True)


async def test_each_server_has_a_token_of_its_own():
    target = Target.named("local", port=cloudctl.free_port())
    async with serve(target, "guarded") as one, serve(target, "guarded") as other:
        assert one.token != other.token
        assert len(one.token) >= 32
        assert one.address == f"{one.url}#token={one.token}"


async def test_a_form_cannot_ask_and_a_link_may_open_the_page(ask):
    status, _, text = await ask("api/query", method="POST", data={"query": "SELECT 1"})
    assert (status, "send JSON" in text) == (403, True)
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    status, headers, _ = await ask("", headers=link)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self'" in policy


@pytest.mark.parametrize("name", ["..%2Fserver.py", "nothing.js", "server.py", "%2Fetc%2Fpasswd"])
async def test_only_the_files_of_the_page_are_served(ask, name):
    status, _, text = await ask(f"static/{name}")
    assert status == 404
    assert "class" not in text

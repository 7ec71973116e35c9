"""The page's server: static files, and an API that reads from the target."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dashboards.live import runs
from dashboards.live.alarms import read_alarms, read_history
from dashboards.live.board import read_dashboard
from dashboards.live.clients import ApiProblem, Clients
from dashboards.live.fleet import Fleet
from dashboards.live.guard import REPORT_POLICY, Token, guard
from dashboards.live.logs import read_log
from fleetcast import __version__
from fleetcast.errors import TargetError, UsageError
from fleetcast.target import LOCAL_HOST
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fleetcast.target import Target

MAX_BODY_BYTES = 512 * 1024
MAX_RANGE_S = 15 * 86_400
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
# How often the page asks, seconds. AWS bills each metric that is asked for and each query.
LOCAL_EVERY = {"board": 5, "alarms": 2, "map": 1, "runs": 1}
AWS_EVERY = {"board": 60, "alarms": 30, "map": 60, "runs": 1}


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is served.

    Attributes:
        url: Where.
        token: What its API wants in the Authorization header, after `Bearer`.
    """

    url: str
    token: str

    @property
    def address(self) -> str:
        """What a browser opens: the token is in the part that it sends to nobody."""
        return f"{self.url}#token={self.token}"


class _Api:
    def __init__(self, target: Target, environment: str, clients: Clients, token: Token) -> None:
        self._target = target
        self._environment = environment
        self._clients = clients
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._index),
            web.get("/static/{name}", self._static),
            web.get("/runs/{run}/report.html", self._report),
            web.get("/api/state", self._state),
            web.get("/api/dashboard", self._dashboard),
            web.get("/api/alarms", self._alarms),
            web.get("/api/history", self._history),
            web.get("/api/devices", self._devices),
            web.get("/api/device", self._device),
            web.get("/api/map", self._map),
            web.get("/api/runs", self._runs),
            web.post("/api/query", self._query),
            web.post("/api/log", self._log),
        ]

    def _outputs(self) -> StackOutputs:
        """What is deployed now: the page may be opened before the stack is there.

        Raises:
            ApiProblem: nothing is.
        """
        try:
            return StackOutputs.load(self._target.name, self._environment)
        except UsageError as error:
            raise ApiProblem(str(error), "NoStack", 404) from error

    async def _index(self, _: web.Request) -> web.Response:
        return _file("index.html")

    async def _static(self, request: web.Request) -> web.Response:
        return _file(request.match_info["name"])

    async def _report(self, request: web.Request) -> web.StreamResponse:
        path = runs.report_path(request.match_info["run"])
        text = await asyncio.to_thread(path.read_bytes)
        return web.Response(
            body=text,
            content_type="text/html",
            charset="utf-8",
            headers={"Content-Security-Policy": REPORT_POLICY},
        )

    async def _state(self, _: web.Request) -> web.Response:
        told: dict[str, Any] = {
            "version": __version__,
            "target": self._target.name,
            "environment": self._environment,
            "every_s": LOCAL_EVERY if self._target.name == "local" else AWS_EVERY,
        }
        outputs = self._outputs()
        told |= {
            "region": outputs.region,
            "dashboard": outputs.dashboard_name,
            "table": f'"{outputs.timeseries_database}"."{outputs.timeseries_table}"',
            "alarm_period_s": outputs.alarm_period_s,
        }
        listed = await self._clients.call("cloudwatch", "list_dashboards")
        names = [entry["DashboardName"] for entry in listed["DashboardEntries"]]
        told["dashboards"] = names
        return web.json_response(told)

    async def _dashboard(self, request: web.Request) -> web.Response:
        name = request.query.get("name") or self._outputs().dashboard_name
        range_s = _number(request, "range_s", 0, MAX_RANGE_S)
        return web.json_response(await read_dashboard(self._clients, name, range_s or None))

    async def _alarms(self, _: web.Request) -> web.Response:
        names = sorted(self._outputs().alarms.values())
        return web.json_response({"alarms": await read_alarms(self._clients, names)})

    async def _history(self, request: web.Request) -> web.Response:
        names = sorted(self._outputs().alarms.values())
        return web.json_response(
            await read_history(
                self._clients,
                names,
                name=request.query.get("name", ""),
                token=request.query.get("after", ""),
            )
        )

    def _fleet(self) -> Fleet:
        return Fleet(self._clients, self._outputs())

    async def _devices(self, request: web.Request) -> web.Response:
        return web.json_response(
            await self._fleet().devices(
                order=request.query.get("order", "newest"),
                within_s=_number(request, "within_s", 3600, MAX_RANGE_S),
                search=request.query.get("search", ""),
                cursor=request.query.get("after", ""),
            )
        )

    async def _device(self, request: web.Request) -> web.Response:
        within_s = _number(request, "within_s", 3600, MAX_RANGE_S)
        return web.json_response(
            await self._fleet().device(request.query.get("name", ""), within_s)
        )

    async def _map(self, request: web.Request) -> web.Response:
        since_ms = _number(request, "since_ms", 0, 10**14)
        return web.json_response(await self._fleet().placed(since_ms))

    async def _runs(self, _: web.Request) -> web.Response:
        told = await asyncio.to_thread(runs.read_runs)
        for run in told["runs"]:
            run["report"] = self._token.report(run["id"]) if run["report"] else ""
        return web.json_response(told)

    async def _query(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        got = await self._fleet().query(str(asked.get("query", "")), str(asked.get("after", "")))
        return web.json_response({"columns": got.columns, "rows": got.rows, "next": got.token})

    async def _log(self, request: web.Request) -> web.Response:
        asked = await _asked(request)
        name = str(asked.get("name") or self._outputs().dashboard_name)
        return web.json_response(
            await read_log(
                self._clients, name, str(asked.get("widget", "")), int(asked.get("range_s") or 900)
            )
        )


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Gives the page every error in one shape."""
    try:
        return await handler(request)
    except ApiProblem as problem:
        told = {"told": str(problem), "code": problem.code, "away": problem.away}
        return web.json_response({"error": told}, status=problem.status)
    except web.HTTPException as error:
        return web.json_response({"error": {"told": error.reason}}, status=error.status)


async def _asked(request: web.Request) -> dict[str, Any]:
    try:
        asked = json.loads(await request.text())
    except ValueError as error:
        raise ApiProblem(f"the request is not JSON: {error}", status=400) from error
    if not isinstance(asked, dict):
        raise ApiProblem("the request is no JSON object", status=400)
    return asked


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) > most:
        raise ApiProblem(f"{name} is a whole number of at most {most:,}, not {text}", status=400)
    return int(text)


def _file(name: str) -> web.Response:
    if name == "plotly.js":
        text = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
        return web.Response(
            body=text, content_type=TYPES["js"], charset="utf-8",
            headers={"Cache-Control": "max-age=86400"},
        )  # fmt: skip
    kind = TYPES.get(name.rpartition(".")[2])
    path = files("dashboards.live") / "static" / name
    if kind is None or "/" in name or not path.is_file():
        raise ApiProblem(f"no file {name}", status=404)
    return web.Response(
        body=path.read_bytes(), content_type=kind, charset="utf-8",
        headers={"Cache-Control": "no-cache"},
    )  # fmt: skip


@asynccontextmanager
async def serve(target: Target, environment: str, *, port: int = 0) -> AsyncIterator[Page]:
    """Serves the page on loopback until the context ends.

    Args:
        target: What is read.
        environment: Whose stack.
        port: TCP port; any free one where 0.

    Raises:
        TargetError: the port is taken.
    """
    async with Clients(target) as clients:
        token = Token()
        app = web.Application(middlewares=[guard(token), _problems], client_max_size=MAX_BODY_BYTES)
        app.add_routes(_Api(target, environment, clients, token).routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, LOCAL_HOST, port)
            try:
                await site.start()
            except OSError as error:
                raise TargetError(
                    f"port {port} is taken: give fleetcast dashboard another --page-port"
                ) from error
            bound = runner.addresses[0][1]
            yield Page(f"http://{LOCAL_HOST}:{bound}/", token.text)
        finally:
            await runner.cleanup()

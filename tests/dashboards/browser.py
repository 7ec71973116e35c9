"""A headless Chromium driven over its debugging protocol, with what its console said."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Browser:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session = ""
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._traced: list[dict[str, Any]] = []
        self._trace_ended = asyncio.Event()

    async def listen(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            waiting = self._waiting.pop(told.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(told)
            self._note(told.get("method", ""), told.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            told = details.get("exception", {}).get("description", "")
            self.errors.append(f"{details['text']} {told}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.errors.append(" ".join(str(one.get("value", one)) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Tracing.dataCollected":
            self._traced += params["value"]
        elif method == "Tracing.tracingComplete":
            self._trace_ended.set()

    async def send(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        told = await asyncio.wait_for(self._waiting[number], 60)
        assert "error" not in told, f"{method}: {told.get('error')}"
        return told["result"]

    async def attach(self) -> None:
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def open(self, url: str) -> None:
        """Opens a page of its own: one with another fragment is loaded anew."""
        await self.send("Page.navigate", url="about:blank")
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        told = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, f"{script}: {told['exceptionDetails']}"
        return told["result"].get("value")

    async def until(self, script: str, timeout_s: float = 40) -> Any:
        """Waits until an expression is true; its value."""
        give_up_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            with contextlib.suppress(AssertionError):
                value = await self.run(script)
                if value:
                    return value
            if asyncio.get_running_loop().time() > give_up_s:
                text = await self.run("document.body.innerText.slice(0, 1500)")
                raise AssertionError(f"{script} did not come true; errors {self.errors}; {text}")
            await asyncio.sleep(0.1)

    async def traced(self, script: str, categories: list[str]) -> tuple[Any, list[dict[str, Any]]]:
        """The value of an expression in the page, and a performance trace of the time it took."""
        self._traced.clear()
        self._trace_ended.clear()
        config = {"includedCategories": categories, "recordMode": "recordUntilFull"}
        await self.send("Tracing.start", transferMode="ReportEvents", traceConfig=config)
        value = await self.run(script)
        await self.send("Tracing.end")
        async with asyncio.timeout(60):
            await self._trace_ended.wait()
        return value, list(self._traced)

    async def press(self, key: str, modifiers: int = 0) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers)

    async def picture(self, path: Path) -> None:
        told = await self.send("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(told["data"]))


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile in `folder`."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on the path: the page cannot be opened in a browser")
    process = await asyncio.create_subprocess_exec(
        path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
        f"--user-data-dir={folder}", "about:blank",
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        url = await asyncio.wait_for(_address(process), 60)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            try:
                await browser.attach()
                yield browser
            finally:
                listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if b"DevTools listening on " in line:
            return line.split(b" on ", 1)[1].decode().strip()
    raise AssertionError("chromium ended before it listened")

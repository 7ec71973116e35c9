"""moto behind the front: every service and operation that has no data plane of our own.

moto keeps its state in the process, so one process plays one cloud; `reset` empties it.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from localcloud.http import AwsError, Response
from localcloud.moto_chance import draw_from_moments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.http import Request

log = logging.getLogger(__name__)

# moto's backends are not thread-safe for writes; two threads let a slow call not block all others.
THREADS = 4
_HARMLESS_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "fleetcast-local",
    "AWS_SECRET_ACCESS_KEY": "fleetcast-local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MOTO_ALLOW_NONEXISTENT_REGION": "false",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "false",
}


class MotoBackend:
    """Runs moto's WSGI application in a thread pool."""

    def __init__(self) -> None:
        for name, value in _HARMLESS_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - slow, and reads the environment
            DomainDispatcherApplication,
            create_backend_app,
        )

        draw_from_moments()
        _list_modules_once()
        _list_models_once()
        logging.getLogger("werkzeug").setLevel(logging.WARNING)

        def create(service: str) -> Any:
            application = create_backend_app(service)
            # What moto cannot do comes back as an exception, not as a page of HTML.
            application.config["PROPAGATE_EXCEPTIONS"] = True
            return application

        self._application = DomainDispatcherApplication(create)
        self._threads = ThreadPoolExecutor(THREADS, "moto")

    def reset(self) -> None:
        """Forgets every resource."""
        from moto.core.base_backend import BackendDict  # noqa: PLC0415 - slow
        from moto.core.model_instances import reset_model_data  # noqa: PLC0415

        BackendDict.reset()
        reset_model_data()

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def handle(self, request: Request) -> Response:
        """Answers a request as moto does.

        Raises:
            AwsError: NotImplemented, where moto does not serve it or fails on it.
        """
        loop = asyncio.get_running_loop()
        name = (
            f"{request.service or 's3'} {request.operation or f'{request.method} {request.path}'}"
        )
        try:
            # The moment of a request that is kept goes with it.
            context = contextvars.copy_context()
            response = await loop.run_in_executor(self._threads, context.run, self._call, request)
        except AwsError:
            raise
        except NotImplementedError as error:
            raise _not_served(f"{name} is not served locally: {_line(error)}") from error
        except Exception as error:
            log.warning("moto failed on %s", name, exc_info=True)
            raise _not_served(
                f"{name}: moto, which answers it here, failed: {type(error).__name__} {_line(error)}"
            ) from error
        if response.status >= 400 and _is_page(response):  # noqa: PLR2004 - HTTP's classes
            # Flask's own pages: there is no such route, or moto gave up.
            raise _not_served(f"{name} is not served locally")
        return response

    def _call(self, request: Request) -> Response:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(request.path, "latin-1"),
            "RAW_URI": request.path + (f"?{request.query}" if request.query else ""),
            "REQUEST_URI": request.path + (f"?{request.query}" if request.query else ""),
            "QUERY_STRING": request.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            if name not in {"content-type", "content-length", "transfer-encoding"}:
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        head: dict[str, Any] = {}

        def start_response(
            status: str, headers: list[tuple[str, str]], _error: object = None
        ) -> None:
            head["status"] = int(status.split(" ", 1)[0])
            head["headers"] = {name.lower(): value for name, value in headers}

        parts: Iterable[bytes] = self._application(environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close:
                close()
        return Response(head["status"], body, head["headers"])


@functools.cache
def _list_modules_once() -> None:
    """Spares moto reading its own folder for each request, half of what a small one takes."""
    from moto import backends  # noqa: PLC0415 - slow

    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules


def _list_models_once() -> None:
    """Spares moto listing the folders of all services before it reads the model of one."""
    from moto.core import utils  # noqa: PLC0415 - slow

    utils.create_loader = functools.cache(utils.create_loader)


def _not_served(message: str) -> AwsError:
    return AwsError("NotImplemented", message, 501)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _is_page(response: Response) -> bool:
    kind = response.headers.get("content-type", "")
    start = response.body[:20].lstrip().lower()
    return kind.startswith("text/html") and start.startswith((b"<!doctype", b"<html"))

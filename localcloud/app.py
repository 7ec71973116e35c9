"""One local cloud: its services, its port, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from fleetcast import __version__
from fleetcast.errors import TargetError
from fleetcast.target import LOCAL_ACCOUNT, LOCAL_HOST, LOCAL_REGION
from localcloud.admin import Admin
from localcloud.clients import Clients
from localcloud.cloudwatch.metrics import MetricStore
from localcloud.cloudwatch.service import CloudWatchService
from localcloud.cloudwatch.topics import guard_deliveries
from localcloud.connection import Connection
from localcloud.durable.folder import Folder
from localcloud.durable.requests import Requests
from localcloud.durable.restore import restore
from localcloud.environment import whole_number
from localcloud.firehose.service import FirehoseService
from localcloud.front import Front
from localcloud.functions.service import LambdaService
from localcloud.iot.service import IotService
from localcloud.kinesis.service import KinesisService
from localcloud.logs.service import LogsService
from localcloud.memory import memory_mib, peak_memory_mib
from localcloud.moto_backend import MotoBackend
from localcloud.moto_gaps import MotoGaps
from localcloud.queues.polls import LongPolls
from localcloud.seams import CloudContext
from localcloud.timestream.service import TimestreamService

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from localcloud.seams import Service

log = logging.getLogger(__name__)

BACKLOG = 2048


class LocalCloud:
    """An embedded AWS on one loopback port; an async context manager.

    Args:
        host: Loopback address to listen on.
        port: Port; 0 takes a free one, see `port` after the start.
        region: Region to play.
        iam: Whether IAM, resource and key policies are enforced.
        data: Folder to go on from and to keep everything in; None keeps it in memory alone.
    """

    def __init__(
        self, host: str = LOCAL_HOST, port: int = 0, region: str = LOCAL_REGION, *,
        iam: bool = True, data: Path | None = None,
    ) -> None:  # fmt: skip
        folder = Folder(data, region, LOCAL_ACCOUNT) if data is not None else None
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.metrics = MetricStore()
        self.context = CloudContext(
            host, self.port, region, LOCAL_ACCOUNT, self.metrics, iam=iam, folder=folder
        )
        if folder is not None:
            self.context.requests = Requests(folder.log("requests"))
        self._clients = self.context.clients = Clients(self.context)
        self.kinesis = KinesisService(self.context)
        self._moto = MotoBackend()
        cloudwatch = CloudWatchService(self.context, self.metrics)
        if iam:
            guard_deliveries(self.context.access.delivery_refusal)
        self._polls = LongPolls(MotoGaps(self._moto, region, LOCAL_ACCOUNT), LOCAL_ACCOUNT, folder)
        fallback = cloudwatch.watch(self._polls)
        logs = LogsService(self.context, fallback)
        iot = IotService(self.context, fallback, self.kinesis, logs, _listen(host, mqtt_port()))
        self._services: list[Service] = [
            cloudwatch,
            self.kinesis,
            TimestreamService(self.context),
            logs,
            LambdaService(self.context, self.kinesis, logs),
            FirehoseService(self.context, self.kinesis),
            iot,
        ]
        by_name = {name: service for service in self._services for name in service.signing_names}
        self._started_s = time.time()
        self._front = front = Front(
            by_name,
            fallback,
            Admin(
                {
                    "health": self.health,
                    "status": self.status,
                    "operations": self.operations,
                    "iot": iot.page,
                },
                self.context.faults.board,
            ),
            self.context.faults,
            self.context.access,
            region,
            requests=self.context.requests,
        )
        self._server = _EmbeddedServer(
            uvicorn.Config(
                front,
                log_config=None,
                access_log=False,
                lifespan="off",
                backlog=BACKLOG,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
                ws="none",
                proxy_headers=False,
                http=Connection,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self._running: list[Service] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Opens the port, then starts the services; returns when all of them serve."""
        self._moto.reset()
        folder, requests = self.context.folder, self.context.requests
        if folder is not None:
            self._front.restoring = f"the local cloud takes back what {folder.path} holds"
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise TargetError("the local cloud's server ended at once; see its log")
            await asyncio.sleep(0.01)
        await self._clients.start()
        if requests is not None:
            await restore(requests, self._front.serve, self._services)
            self._polls.restore()
        self.context.restored.set()
        for service in self._services:
            await service.start()
            self._running.append(service)
        self._front.restoring = ""

    async def stop(self) -> None:
        """Stops the services in reverse, then closes the port."""
        # Calls that a fault holds are let go.
        self.context.faults.board.clear()
        while self._running:
            service = self._running.pop()
            try:
                await service.stop()
            except Exception:
                log.exception("stopping %s failed", type(service).__name__)
        await self._clients.close()
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._polls.close()
        guard_deliveries(None)
        self._moto.close()
        if self.context.requests is not None:
            self.context.requests.close()
        if self.context.folder is not None:
            self.context.folder.close()

    def health(self) -> dict[str, Any]:
        """What a start waits for."""
        ready = len(self._running) == len(self._services)
        told = {"ready": ready, "pid": os.getpid(), "version": __version__}
        return {**told, "restoring": True} if self._front.restoring else told

    def _kept(self) -> dict[str, Any] | None:
        folder, requests = self.context.folder, self.context.requests
        if folder is None or requests is None:
            return None
        return {**folder.status(), **requests.status()}

    def operations(self) -> dict[str, list[str]]:
        """The operations that own services answer themselves, by signing name."""
        return {
            service.signing_names[0]: sorted(service.operations()) for service in self._services
        }

    def status(self) -> dict[str, Any]:
        """Health, memory, backlogs, faults, and the status of every own service by signing name."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        now_mib = memory_mib()
        services = {service.signing_names[0]: service.status() for service in self._services}
        return {
            **self.health(),
            "endpoint_url": self.context.endpoint_url,
            "region": self.context.region,
            "account_id": self.context.account_id,
            "uptime_s": round(time.time() - self._started_s, 1),
            "memory_mib": now_mib,
            "max_memory_mib": max(now_mib, peak_memory_mib()),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "services": services,
            "backlog": _backlog(services),
            "faults": self.context.faults.board.active(),
            "iam": self.context.access.status(),
            "data": self._kept(),
            "by_moto": "every other service and operation: control plane only",
            "unsupported": [],
        }


def _backlog(services: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What waits for each consumer of a stream, from what Lambda and Firehose tell."""
    mappings = services.get("lambda", {}).get("mappings", {})
    deliveries = services.get("firehose", {}).get("delivery_streams", {})
    return [
        *(
            {
                "consumer": f"mapping {uuid} to {told['function']}",
                "waiting": {"records": told["backlog"]},
            }
            for uuid, told in mappings.items()
        ),
        *(
            {
                "consumer": f"delivery stream {name}",
                "waiting": {
                    "records": told["records_behind"],
                    "buffered bytes": told["buffered_bytes"],
                },
            }
            for name, told in deliveries.items()
        ),
    ]


class _EmbeddedServer(uvicorn.Server):
    """uvicorn that leaves the process's signals to whoever owns the process."""

    def install_signal_handlers(self) -> None:
        """Does nothing."""

    def capture_signals(self) -> Any:
        """Captures none."""
        from contextlib import nullcontext  # noqa: PLC0415

        return nullcontext()


def mqtt_port() -> int:
    """The port of IoT Core's broker: `FLEETCAST_MQTT_PORT`, or 0 for a free one."""
    return whole_number("FLEETCAST_MQTT_PORT", 1) if os.environ.get("FLEETCAST_MQTT_PORT") else 0


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise TargetError(
            f"cannot listen on {host}:{port} ({error.strerror}): "
            "stop what uses the port, or give another with --port"
        ) from error
    listener.listen(BACKLOG)
    listener.settimeout(0)
    return listener

"""`python -m localcloud`: the local cloud in the foreground, until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import logging
import signal
import sys
from pathlib import Path

from fleetcast.errors import FleetcastError, UsageError
from fleetcast.target import LOCAL_HOST, LOCAL_PORT, LOCAL_REGION


def main() -> int:
    """Runs the cloud; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__)
    parser.add_argument("--host", default=LOCAL_HOST, help="loopback address (127.0.0.1)")
    parser.add_argument("--port", type=int, default=LOCAL_PORT, help="TCP port, 0 takes a free one")
    parser.add_argument("--region", default=LOCAL_REGION, help="AWS region to play")
    parser.add_argument("--no-iam", action="store_true", help="enforce no policies")
    parser.add_argument("--data", type=Path, help="folder to keep everything in")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        _require_loopback(options.host)
        _run(options.host, options.port, options.region, iam=not options.no_iam, data=options.data)
    except FleetcastError as error:
        print(f"localcloud: {error}", file=sys.stderr)  # noqa: T201 - a command's one line
        return error.exit_code
    return 0


def _require_loopback(host: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise UsageError(f"--host {host}: the local cloud listens on loopback addresses only")


def _settle_memory() -> None:
    """Keeps the garbage collector from what was made at the start, which lives to the end.

    A full collection that walks through every module stops all requests for a third of a second.
    """
    gc.collect()
    gc.freeze()
    # Records on their way through a request are many and short-lived: the default is 700.
    gc.set_threshold(20_000)


def _run(host: str, port: int, region: str, *, iam: bool, data: Path | None) -> None:
    import uvloop  # noqa: PLC0415 - not needed to refuse bad arguments

    from localcloud.app import LocalCloud  # noqa: PLC0415

    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        cloud = LocalCloud(host, port, region, iam=iam, data=data)
        logging.getLogger("localcloud").info("local cloud on %s", cloud.context.endpoint_url)
        try:
            await cloud.start()
            _settle_memory()
            await stopped.wait()
        finally:
            await cloud.stop()

    uvloop.run(serve())


if __name__ == "__main__":
    sys.exit(main())

"""A socket to a broker, with TLS, opened in the event loop.

paho opens one in a thread that blocks. In a process that sends, such a thread waits for the
interpreter at each step of the handshake, and a storm's connections come back late.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl


async def opened(host: str, port: int, context: ssl.SSLContext | None) -> socket.socket:
    """A connected socket that does not block; TLS has shaken hands on it.

    Args:
        host: The broker, as its certificate names it.
        port: Its port.
        context: Of TLS; None is none.

    Raises:
        OSError: nobody is there, or TLS fails.
    """
    loop = asyncio.get_running_loop()
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, number, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):  # fmt: skip
        sock = socket.socket(family, kind, number)
        try:
            sock.settimeout(0)
            await loop.sock_connect(sock, address)
            break
        except OSError as error:
            problem = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    else:
        raise problem
    return sock if context is None else await _with_tls(sock, host, context)


async def _with_tls(sock: socket.socket, host: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    with contextlib.ExitStack() as failed:
        failed.callback(sock.close)
        wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        failed.callback(wrapped.close)
        loop, there = asyncio.get_running_loop(), asyncio.Event()
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                add, remove = loop.add_reader, loop.remove_reader
            except ssl.SSLWantWriteError:
                add, remove = loop.add_writer, loop.remove_writer
            else:
                failed.pop_all()
                return wrapped
            there.clear()
            add(wrapped, there.set)
            try:
                await there.wait()
            finally:
                remove(wrapped)

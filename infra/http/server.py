"""Runs the application with uvicorn inside an event loop that is already there, with a clear word for a taken port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn

from infra.http.protocol import BoundedProtocol

GRACE_SECONDS: Final = 10
"""How long requests in progress may go on after the stop."""

_BACKLOG: Final = 2_048


class PortTaken(Exception):
    """Another program listens there already."""

    def __init__(self, host: str, port: int) -> None:
        """Keep the address; the message says what to set."""
        super().__init__(
            f"port {port} on {host} is taken by another program: stop it, or set COMMONS_LISTEN to another address, "
            f"e.g. COMMONS_LISTEN={host}:{port + 1}"
        )
        self.host = host
        self.port = port


class AddressRefused(Exception):
    """The system does not let us listen there."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        """Say which address and why."""
        super().__init__(f"cannot listen on {host}:{port} ({reason}): set COMMONS_LISTEN to an address of this machine")


class _Server(uvicorn.Server):
    """Leaves signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening-ready socket (port 0: any free one). Raises PortTaken, AddressRefused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise AddressRefused(host, port, error.strerror or str(error)) from error
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        raise AddressRefused(host, port, error.strerror or str(error)) from error
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener


@asynccontextmanager
async def serving(
    app: Any, host: str, port: int, *, listener: socket.socket | None = None, trusted_proxies: str = ""
) -> AsyncIterator[str]:
    """Serve while the context lasts and yield the address `http://host:port`; leaving ends what is in progress.

    `listener` is a socket from `bind`, for who wants to know that the port is free before anything else starts.
    Client addresses come from `X-Forwarded-For` only when the peer is one of `trusted_proxies`. Raises PortTaken.
    """
    listener = listener or bind(host, port)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the HTTP server ended before it started")
            await asyncio.sleep(0.01)
        bound = listener.getsockname()
        yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
    finally:
        server.should_exit = True
        with contextlib.suppress(SystemExit):
            await task
        listener.close()

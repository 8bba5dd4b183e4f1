"""One machine: the database, the processes, and how a command finds those that another command has started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from infra.home import check_home, write_format
from infra.http.server import bind
from infra.postgres.binaries import MAJOR_VERSION
from infra.postgres.embedded import EmbeddedPostgres
from infra.postgres.embedded_errors import HomeInUse
from infra.postgres.place import free_bytes
from infra.settings import NONE, Settings
from infra.supervise import Supervisor

WATCH_SECONDS: Final = 1.0
READY_SECONDS: Final = 600.0
"""A first start makes a database cluster, a start after a crash replays a log: neither is cut off early."""

Say = Callable[[str], None]


LEAST_FREE_BYTES: Final = 64 << 20
"""Four segments of the database's write-ahead log; with less, `commons up` does not start."""


class NoRoom(Exception):
    """Too little disk is free to start."""


class NotReady(Exception):
    """What was started does not answer."""


@asynccontextmanager
async def database(settings: Settings, say: Say, *, borrow: bool = True, checked: bool = True) -> AsyncIterator[str]:
    """Yield the DSN: the embedded server's, started and watched here unless another process has, or the one given.

    What serves for long does not `borrow` another process's server, because it would end with that process; what must
    be alone does not either. Without `checked` the home may be half restored.
    Raises HomeRefused and EmbeddedPostgresError; HomeInUse only when the other's server may not or cannot be used.
    """
    major = int(MAJOR_VERSION) if settings.embedded else None
    if checked:
        check_home(settings.home, major)
    if not settings.embedded:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_format(settings.home, major)
        yield settings.database
        return
    address = settings.home / "run" / "database"
    server = EmbeddedPostgres(settings.home, report=say)
    try:
        dsn = await asyncio.to_thread(server.start)
    except HomeInUse:
        if not borrow or not address.exists():
            raise
        yield address.read_text()
        return
    _write_private(address, dsn)
    if checked:
        write_format(settings.home, major)
    watching = asyncio.create_task(_watch(server, say))
    try:
        yield dsn
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        address.unlink(missing_ok=True)
        await asyncio.to_thread(server.stop)


async def _watch(server: EmbeddedPostgres, say: Say) -> None:
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            await asyncio.to_thread(server.ensure_running)
        except (RuntimeError, OSError) as error:
            say(f"the database cannot be started again: {error}")
            await asyncio.sleep(WATCH_SECONDS * 5)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


@asynccontextmanager
async def processes(
    settings: Settings,
    groups: Sequence[Sequence[str]],
    say: Say,
    environ: Mapping[str, str] | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Run everything on this machine; yields the supervisor's task once the edge is ready, or `stop` is set before.

    Raises NoRoom and PortTaken before anything is started, ChildGaveUp and NotReady afterwards.
    """
    refuse_a_full_disk(settings)
    if any("http" in group for group in groups):
        refuse_a_taken_port(settings.host, settings.port)
    async with database(settings, say, borrow=False) as dsn:
        environ = dict(environ if environ is not None else os.environ)
        environ.pop("COMMONS_DATABASE_FILE", None)
        environ |= {
            "COMMONS_HOME": str(settings.home),
            "COMMONS_LISTEN": f"{settings.host}:{settings.port}",
            "COMMONS_PUBLIC_URL": settings.public_url,
            "COMMONS_DATABASE": dsn,
        }
        if settings.metrics_listen is not None and settings.metrics_listen[1] == settings.port:
            environ["COMMONS_METRICS_LISTEN"] = NONE  # there the edge answers, in a process of its own
        running = asyncio.create_task(Supervisor(groups, environ, say).run())
        try:
            if any("http" in group for group in groups):
                await _until_ready(settings, running, stop or asyncio.Event())
            yield running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _until_ready(settings: Settings, running: asyncio.Task[None], stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_SECONDS
    while loop.time() < deadline:
        if stop.is_set():
            return
        if running.done():
            running.result()
        if await ready(local_url(settings)):
            return
        await asyncio.sleep(0.1)
    raise NotReady(f"nothing answered at {local_url(settings)} in {READY_SECONDS:g} s")


def local_url(settings: Settings) -> str:
    """Return the address of this machine's edge, which may differ from the public one."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


async def ready(url: str) -> bool:
    """Tell whether an edge at `url` is ready to serve."""
    try:
        # A proxy in the environment is for the world outside, not for this machine.
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            return (await client.get(f"{url}/health/ready")).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def refuse_a_full_disk(settings: Settings) -> None:
    """Raise NoRoom when too little is free where the home lies for a database to start and recover safely."""
    free = free_bytes(settings.home)
    if settings.embedded and free < LEAST_FREE_BYTES:
        raise NoRoom(
            f"only {free // 2**20} MiB are free where {settings.home} lies, a start needs {LEAST_FREE_BYTES // 2**20} "
            "MiB: make room and start again; nothing that was acknowledged is lost"
        )


def refuse_a_taken_port(host: str, port: int) -> None:
    """Raise PortTaken when another program listens there; port 0 is always free."""
    bind(host, port).close()

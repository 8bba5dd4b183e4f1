"""`commons up`: everything of this machine behind one command, one port and one Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

import typer

from events.catalog import UpgradeNeeded
from events.store import StoreError, StoreFull, StoreUnavailable
from infra.cli.output import emit_json, fail, say
from infra.keys import KeyFileRefused
from infra.local import database, local_url, processes, ready, refuse_a_full_disk, refuse_a_taken_port
from infra.logs import noted, start_logging
from infra.platform import CHILDREN, ROLES, open_platform, run_roles
from infra.serving import health_beside, serve_http
from infra.settings import Settings, read_settings
from infra.supervise import GIVES_UP, ChildGaveUp

RETRY_SECONDS = 1.0


def up(
    roles: Annotated[list[str] | None, typer.Argument(help=f"What to run here: {', '.join(ROLES)}. All.")] = None,
    *,
    single: Annotated[bool, typer.Option("--single", help="One process instead of two.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Say that it is ready as one JSON object.")] = False,
) -> None:
    """Start everything and serve until Ctrl-C."""
    chosen = tuple(roles or (role for group in CHILDREN for role in group))
    if unknown := sorted(set(chosen) - set(ROLES)):
        fail(f"unknown role {unknown[0]!r}", f"there are {', '.join(ROLES)}")
    settings = read_settings()
    start_logging(settings, "up" if single or roles else "supervisor")
    tell = noted(say)

    async def work(stop: asyncio.Event) -> None:
        if single or roles:
            await _in_this_process(settings, chosen, stop, json=json)
            return
        async with processes(settings, CHILDREN, tell, stop=stop) as running:
            if stop.is_set():
                return
            announce(settings, json=json)
            await first_of(stop, running)

    run_until_signalled(work)


def child(roles: list[str]) -> None:
    """Run some roles as a child of `commons up`; ends when the supervisor's end of stdin closes."""
    settings = read_settings()
    start_logging(settings, "-".join(roles))

    async def work(stop: asyncio.Event) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: _when_closed(stop))
        await _serve(settings, settings.database, roles, stop)

    try:
        run_until_signalled(work)
    except StoreFull:
        raise  # room may be made: it is tried again
    except (StoreError, UpgradeNeeded, KeyFileRefused) as error:
        say(f"commons: {error}")
        sys.exit(GIVES_UP)


def announce(settings: Settings, *, json: bool) -> None:
    """Say where it serves."""
    if json:
        emit_json({"ready": True, "url": local_url(settings), "home": str(settings.home), "pid": os.getpid()})
    else:
        say(f"ready: {local_url(settings)}  (home {settings.home}; Ctrl-C stops everything)")


async def first_of(stop: asyncio.Event, running: asyncio.Task[None]) -> None:
    """Wait for the end: asked for, or because a child gave up (raises ChildGaveUp)."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, running], return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not running.cancelled() and (error := running.exception()) is not None:
            raise error if isinstance(error, ChildGaveUp) else ChildGaveUp(str(error))
    finally:
        stopping.cancel()


async def finished(stop: asyncio.Event, job: asyncio.Task[None]) -> bool:
    """Wait for a job, or for the end asked for; tell whether the job was finished. Raises what the job raised."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, job], return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            job.result()
            return True
        return False
    finally:
        stopping.cancel()
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


def run_until_signalled(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `work(stop)`; SIGINT and SIGTERM set `stop`, a second one interrupts."""

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def asked() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked)
        await work(stop)

    import uvloop  # noqa: PLC0415 - not on every platform

    uvloop.run(main())


async def _in_this_process(settings: Settings, roles: Sequence[str], stop: asyncio.Event, *, json: bool) -> None:
    refuse_a_full_disk(settings)
    if "http" in roles:
        refuse_a_taken_port(settings.host, settings.port)
    async with database(settings, say, borrow=False) as dsn:
        announcing = asyncio.create_task(_announce_when_ready(settings, roles, json=json))
        try:
            await _serve(settings, dsn, roles, stop)
        finally:
            announcing.cancel()


async def _announce_when_ready(settings: Settings, roles: Sequence[str], *, json: bool) -> None:
    while "http" in roles and not await ready(local_url(settings)):  # noqa: ASYNC110 - asks as any caller would
        await asyncio.sleep(0.1)
    announce(settings, json=json)


async def _serve(settings: Settings, dsn: str, roles: Sequence[str], stop: asyncio.Event) -> None:
    """Serve the roles; a database that is away at the start is waited for."""
    while not stop.is_set():
        try:
            async with open_platform(settings, dsn) as platform, health_beside(platform, roles):
                await run_roles(platform, roles, stop, serve_http)
        except StoreUnavailable as error:
            logging.getLogger(__name__).warning("the database is away: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


def _when_closed(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()

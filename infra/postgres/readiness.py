"""Ask a server for a real connection: the only proof that it is ready."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Final, TypeVar

import asyncpg  # type: ignore[import-untyped]

T = TypeVar("T")

_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_NOT_NOW: Final = ("57", "53", "08")  # operator intervention (starting up), resources, connection: worth another try
_DISK_FULL: Final = "53100"
_REFUSED: Final = "28"
_NO_DATABASE: Final = "3D"


class Answer(Enum):
    """What a server said to an attempt to connect."""

    READY = auto()
    NOT_YET = auto()
    LEAVING = auto()
    NO_DATABASE = auto()
    REFUSED = auto()
    BROKEN = auto()


def ask(dsn: str) -> tuple[Answer, str]:
    """Connect and run one query; return the answer and the server's words. Raises `OSError` for a full disk.

    Runs in a thread with an event loop of its own, so that it may be called wherever one is running already.
    """
    return _wait_for(_ask(dsn))


def create_database(dsn: str, name: str) -> None:
    """Create the database `name`; a failure shows at the next `ask()`. Raises `OSError` for a full disk."""
    _wait_for(_create_database(dsn, name))


def _wait_for(work: Coroutine[None, None, T]) -> T:
    def in_a_loop() -> T:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(work)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(in_a_loop).result()


async def _ask(dsn: str) -> tuple[Answer, str]:
    try:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_SECONDS)
    except asyncpg.PostgresError as error:
        return _meaning(error), str(error)
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        return Answer.NOT_YET, str(error)
    try:
        await connection.execute("SELECT 1", timeout=_CONNECT_TIMEOUT_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Answer.NOT_YET, str(error)
    else:
        return Answer.READY, ""
    finally:
        connection.terminate()


def _meaning(error: asyncpg.PostgresError) -> Answer:
    """Sort by the SQLSTATE (PostgreSQL manual, appendix A); the server runs with LC_ALL=C, so its words are English."""
    state = error.sqlstate or ""
    if state == _DISK_FULL:
        raise OSError(errno.ENOSPC, str(error)) from error
    if "shutting down" in str(error):
        return Answer.LEAVING
    if state.startswith(_NOT_NOW):
        return Answer.NOT_YET
    if state.startswith(_REFUSED):
        return Answer.REFUSED
    return Answer.NO_DATABASE if state.startswith(_NO_DATABASE) else Answer.BROKEN


async def _create_database(dsn: str, name: str) -> None:
    try:
        connection = await asyncpg.connect(dsn, database="postgres", timeout=_CONNECT_TIMEOUT_SECONDS)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
    except asyncpg.DiskFullError as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return

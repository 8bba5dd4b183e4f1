"""LISTEN on one connection of its own, for any number of services; reconnects by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

Wake = Callable[[int], None]
"""Called with the position that was committed; 0 when the connection is new and anything may have been missed."""


class Wakeups:
    """Listens while at least one callback is registered. A wake-up may be lost; whoever waits also polls."""

    def __init__(self, dsn: str) -> None:
        """Connect nowhere yet; the first `add` does."""
        self._dsn = dsn
        self._callbacks: dict[str, list[Wake]] = {}
        self._connection: asyncpg.Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()

    @property
    def listening(self) -> bool:
        """Whether the connection stands, so that wake-ups can be expected."""
        return self._connection is not None and not self._connection.is_closed()

    async def add(self, channel: str, wake: Wake) -> None:
        """Call `wake` for every notification on `channel`."""
        known = channel in self._callbacks
        self._callbacks.setdefault(channel, []).append(wake)
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="commons wake-ups")
        elif not known and self._connection is not None:
            async with self._asking:  # one statement at a time on a connection
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # else: at the next connection
                    await self._connection.add_listener(channel, self._notified)

    def remove(self, channel: str, wake: Wake) -> None:
        """Call `wake` no more."""
        with suppress(KeyError, ValueError):
            self._callbacks[channel].remove(wake)

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        position = int(payload) if str(payload).isdecimal() else 0
        for wake in list(self._callbacks.get(channel, ())):
            wake(position)

    async def _listen(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await self._listen_once()
                pause = FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _listen_once(self) -> None:
        """Listen until the connection ends."""
        settings = {"application_name": "commons wake-ups"}
        connection = await asyncpg.connect(self._dsn, timeout=10, server_settings=settings)
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: ended.set())
        try:
            listening: set[str] = set()
            while missing := self._callbacks.keys() - listening:  # more may be added while we ask
                for channel in missing:
                    await connection.add_listener(channel, self._notified)
                listening |= missing
            self._connection = connection
            for channel in list(self._callbacks):
                self._notified(connection, 0, channel, "")
            await ended.wait()
        finally:
            self._connection = None
            connection.terminate()

"""A directory that is never older than a blink, without strangers being able to keep the database busy."""

from __future__ import annotations

import asyncio
from typing import Final

from services.kernel.directory import Directory
from services.kernel.feed import DirectoryFeed

MAX_AGE_SECONDS: Final = 0.25
"""A key that was rotated in another process is refused here after at most this long."""

MIN_INTERVAL_SECONDS: Final = 0.1
"""The shortest time between two refreshes: whoever sends unknown keys shares them and waits for them."""


class FreshDirectory:
    """Refreshes the process's directory feed on demand; callers who wait share one refresh."""

    def __init__(self, feed: DirectoryFeed) -> None:
        """Take the process's feed."""
        self._feed = feed
        self._begun = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def latest(self) -> Directory:
        """The directory as it is, without waiting."""
        return self._feed.latest

    async def recent(self) -> Directory:
        """Return the directory as of at most MAX_AGE_SECONDS ago. Raises StoreUnavailable."""
        return await self._since(asyncio.get_running_loop().time() - MAX_AGE_SECONDS)

    async def newest(self) -> Directory:
        """Return the directory as of a moment after this call. Raises StoreUnavailable."""
        return await self._since(asyncio.get_running_loop().time())

    async def _since(self, moment: float) -> Directory:
        while self._begun < moment:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._refresh())
            # Shielded: a caller who gives up must not take the refresh away from the others.
            await asyncio.shield(self._task)
        return self._feed.latest

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._begun + MIN_INTERVAL_SECONDS - loop.time()))
        begun = loop.time()
        await self._feed.current()
        self._begun = begun

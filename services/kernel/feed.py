"""Keeps this process's directory: folds the registry's committed facts on demand."""

from __future__ import annotations

import asyncio

from events.catalog import Catalog
from events.store import Store
from services.kernel.directory import Directory, evolve


class DirectoryFeed:
    """The directory of one process. `latest` never waits; `current` first folds what the registry has committed."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        """Take the registry's store."""
        self._store = store
        self._catalog = catalog
        self._lock = asyncio.Lock()
        self.latest = Directory()

    async def current(self) -> Directory:
        """Return the directory as of now. Raises StoreUnavailable."""
        async with self._lock:
            while page := await self._store.read(self.latest.position):
                directory = self.latest
                for notification in page:
                    directory = evolve(directory, self._catalog.decode(notification.state))
                self.latest = directory
        return self.latest

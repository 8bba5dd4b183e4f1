"""Keeps this process's directory: folds the registry's committed facts on demand."""

from __future__ import annotations

import asyncio
import hashlib

from events.catalog import Catalog
from events.store import Checkpoint, Store, read_on
from services.kernel.directory import Directory, evolve


class DirectoryFeed:
    """The directory of one process. `latest` never waits; `current` first folds what the registry has committed."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        """Take the registry's store."""
        self._store = store
        self._catalog = catalog
        self._lock = asyncio.Lock()
        self._at = Checkpoint("directory", store.service, 0, b"")
        self.latest = Directory()

    async def current(self) -> Directory:
        """Return the directory as of now. Raises StoreUnavailable, StoreRewound, UpgradeNeeded."""
        async with self._lock:
            while page := await read_on(self._store, self._at):
                directory = self.latest
                for notification in page:
                    directory = evolve(directory, self._catalog.decode(notification.state))
                digest = hashlib.sha256(page[-1].state).digest()
                self._at = Checkpoint("directory", self._store.service, page[-1].id, digest)
                self.latest = directory
        return self.latest

"""Destroys the keys of erased subjects: a follower of the registry's own facts, so that it is retried until done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from events.bus import Bus, Follower, Page
from events.catalog import Catalog
from events.registry import SubjectErased
from events.store import Checkpoint, CheckpointMoved, Move, Store, StoreFull, StoreUnavailable
from services.kernel.subject_keys import SubjectKeys

FOLLOWER: Final = "policy/registry.destroy-keys"
"""The name its checkpoint stands under, beside those of the registry's policies."""

SOURCE: Final = "registry"

_LOG: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1
_RETRY_SECONDS: Final = 1


class EraseRunner:
    """Follows `SubjectErased`. The key is destroyed before the checkpoint moves: twice is harmless, never is not."""

    def __init__(self, keys: SubjectKeys, store: Store, bus: Bus, catalog: Catalog) -> None:
        """Take plain parts; `store` is the registry's."""
        self._keys = keys
        self._store = store
        self._bus = bus
        self._catalog = catalog

    async def run(self) -> None:
        """Follow for ever; waits out what passes. Raises StoreRewound, UpgradeNeeded, KeystoreRefused."""
        while True:
            try:
                await self._follow()
            except (StoreUnavailable, StoreFull, CheckpointMoved) as error:
                _LOG.info("%s waits: %s", FOLLOWER, error)  # the platform says once that the database is away
            except OSError as error:
                _LOG.warning("%s waits: %s", FOLLOWER, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        subscription = await self._bus.subscribe(Follower(FOLLOWER, [SOURCE], self._checkpoints, in_order=True))
        try:
            while True:
                page = await subscription.fetch(_POLL_SECONDS)
                if page is not None:
                    await self.take(page)
        finally:
            await subscription.close()

    async def _checkpoints(self) -> Mapping[str, Checkpoint]:
        return await self._store.checkpoints(FOLLOWER)

    async def take(self, page: Page) -> None:
        """Destroy the keys one page of facts asks for, then move on. Raises StoreError, OSError."""
        erased = [
            self._catalog.decode(record.state).fact for record in page.records if record.topic == SubjectErased.TYPE
        ]
        subjects = [fact.member for fact in erased if isinstance(fact, SubjectErased)]
        if subjects:
            await self._keys.destroy(subjects)
            _LOG.warning("destroyed the keys of %d erased subjects", len(subjects))
        await self._store.move([Move(page.before, page.checkpoint(FOLLOWER))])

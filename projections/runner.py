"""Keeps a view up to date: pages from the bus, folded in bulk, rows and checkpoint in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Final

from events.bus import Bus, Page, Subscription
from events.catalog import Catalog, UpgradeNeeded
from events.store import Checkpoint, CheckpointMoved, Move, StoreError, StoreFull, StoreUnavailable
from projections.fold import Folder, Poisoned, Workspace, positions_of
from projections.store import ViewStore
from projections.view import View

_LOG: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0


class ViewRunner:
    """One view's follower. Any number may run; the checkpoint lets one advance and the others start again."""

    def __init__(self, view: View, store: ViewStore, bus: Bus, catalog: Catalog) -> None:
        """Take plain parts; `run` prepares the tables."""
        self.view = view
        self._store = store
        self._bus = bus
        self._folder = Folder(view, catalog)
        self._reached: dict[str, int] = {}
        self.alarm: Poisoned | None = None
        """The fact this view cannot fold and therefore stands before; None while it flows."""

    async def run(self) -> None:
        """Follow for ever; waits out what passes. Returns only when a fact cannot be folded, with `alarm` set.

        Raises StoreRewound and UpgradeNeeded: then this process must not go on.
        """
        while self.alarm is None:
            try:
                await self._store.prepare(self.view)
                await self._follow()
            except (StoreUnavailable, StoreFull, CheckpointMoved) as error:
                _LOG.info("view %s waits: %s", self.view.name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def subscribe(self) -> Subscription:
        """Continue where the view's checkpoints stand. Raises StoreRewound."""
        start = await self._store.checkpoints(self.view.follower)
        self._reached = positions_of(start)
        return await self._bus.subscribe(self.view.services, start)

    async def _follow(self) -> None:
        subscription = await self.subscribe()
        while self.alarm is None:
            page = await subscription.fetch(_POLL_SECONDS)
            if page is not None:
                await self.take(page)

    async def take(self, page: Page) -> None:
        """Fold one page and commit it with the checkpoint. Raises CheckpointMoved, UpgradeNeeded, StoreError.

        When a fact cannot be folded, everything before it is committed and `alarm` is set.
        """
        page = unseen(page, self._reached.get(page.channel, 0))
        if not page.records:
            return
        try:
            await self._take(page)
        except Poisoned as poison:
            if poison.index:
                last = page.last - len(page.records) + poison.index
                await self._take(Page(page.channel, page.before, last, page.records[: poison.index]))
            self._stop(poison)
        except (StoreError, UpgradeNeeded):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, other views go on
            # The database refuses a row (a number beyond 64 bits): fact by fact, to stop before the right one.
            if len(page.records) > 1:
                await self._one_by_one(page)
            else:
                refused = Poisoned(self.view.name, page.channel, 0, page.records[0].id)
                refused.__cause__ = error
                self._stop(refused)

    def _stop(self, poison: Poisoned) -> None:
        self.alarm = poison
        _LOG.error("view %s stops: %s", self.view.name, poison, exc_info=poison)

    async def _one_by_one(self, page: Page) -> None:
        for index, record in enumerate(page.records):
            if self.alarm is None:
                before = page.last - len(page.records) + index
                await self.take(Page(page.channel, before, before + 1, [record]))

    async def _take(self, page: Page) -> None:
        changes = self._folder.collect(page.channel, page.records)
        workspace = Workspace(self.view)
        digest = hashlib.sha256(page.records[-1].state).digest()
        after = Checkpoint(self.view.follower, page.channel, page.last, digest)
        async with self._store.writing(self.view) as writer:
            # First the checkpoint: only its winner reads rows, so no row is folded from a stale one.
            await writer.move([Move(page.before, after)])
            await workspace.fetch(writer, changes)
            self._folder.apply(workspace, page.channel, page.records, changes)
            await workspace.write(writer)
        self._reached[page.channel] = page.last


def unseen(page: Page, reached: int) -> Page:
    """Return what of the page lies beyond the offset already reached: a delivery may come again."""
    again = max(min(reached, page.last) - page.before, 0)
    return Page(page.channel, page.before + again, page.last, page.records[again:]) if again else page

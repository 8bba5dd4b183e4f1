"""Keeps a view up to date: pages from the bus, folded in bulk, rows and checkpoint in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from events.bus import Bus, Follower, Page, Subscription
from events.catalog import Catalog
from events.parked import Parked
from events.store import Checkpoint, CheckpointMoved, StoreFull, StoreUnavailable
from events.telemetry import Telemetry, distinct
from projections.intake import Intake
from projections.store import ViewStore
from projections.view import View

_LOG: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0


class ViewRunner:
    """One view's follower. Any number may run; the checkpoint lets one advance and the others start again."""

    def __init__(
        self,
        view: View,
        store: ViewStore,
        bus: Bus,
        catalog: Catalog,
        make: Callable[[View], Awaitable[None]] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Take plain parts; `make` sees to it that the view has tables, by making empty ones unless told otherwise."""
        self.view = view
        self._store = store
        self._bus = bus
        self._make = make if make is not None else store.prepare
        self._intake = Intake(view, catalog, lambda: store.writing(view))
        self._follower = Follower(view.follower, view.services, self._checkpoints)
        self._reached: dict[str, int] = {}
        self._telemetry = telemetry or Telemetry()

    async def run(self) -> None:
        """Follow for ever; waits out what passes, parks what cannot be folded.

        Raises StoreRewound, ChannelGap, OtherBus and UpgradeNeeded: then this process must not go on.
        """
        while True:
            try:
                await self._make(self.view)
                await self._follow()
            except (StoreUnavailable, StoreFull, CheckpointMoved) as error:
                _LOG.info("view %s waits: %s", self.view.name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def subscribe(self) -> Subscription:
        """Continue where the view's checkpoints stand. Raises StoreRewound."""
        return await self._bus.subscribe(self._follower)

    async def _checkpoints(self) -> Mapping[str, Checkpoint]:
        start = await self._store.checkpoints(self.view.follower)
        self._reached = {channel: at.position for channel, at in start.items()}
        return start

    async def _follow(self) -> None:
        subscription = await self.subscribe()
        try:
            while True:
                page = await subscription.fetch(_POLL_SECONDS)
                if page is not None:
                    await self.take(page)
        finally:
            await subscription.close()

    async def take(self, page: Page) -> None:
        """Fold one page and commit it with the checkpoint. Raises CheckpointMoved, UpgradeNeeded, StoreError."""
        page = unseen(page, self._reached.get(page.channel, 0))
        if page.last == page.before and not page.quiet:
            return
        for alarm in await self._measured(page):
            _LOG.error(
                "view %s parks %s from position %d of %s on, other streams go on: %s. Run 'commons views repair %s' "
                "once it can be folded",
                self.view.name,
                alarm.stream,
                alarm.position,
                alarm.service,
                alarm.error,
                self.view.name,
            )
        self._reached.update((each.channel, each.last) for each in (page, *page.quiet))

    async def _measured(self, page: Page) -> Sequence[Parked]:
        name, meter = self.view.name, self._telemetry.meter
        traces = distinct(page.traces.values()) if page.traces else ()
        span = self._telemetry.tracer.span(f"view {name}", traces, channel=page.channel, facts=len(page.records))
        with meter.time("commons_view_fold_seconds", name), span:
            alarms = await self._intake.take(page)
        meter.count("commons_view_facts", len(page.records), name)
        return alarms


def unseen(page: Page, reached: int) -> Page:
    """Return what of the page lies beyond the offset already reached: a delivery may come again."""
    if reached <= page.before:
        return page
    fresh = [record for record in page.records if record.id > reached]
    return replace(page, before=min(reached, page.last), records=fresh)

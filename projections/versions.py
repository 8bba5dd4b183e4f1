"""How a version of a view comes to be: at once where there is nothing to fold, else built beside and swapped in.

While a version is being built its queries answer 503: no half-built table is ever read. The tables of older versions
stay, and stay readable by processes of older software, until the new one is swapped in; then they are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from events.catalog import Catalog
from events.store import Store
from projections.rebuild import Progress, Rebuild
from projections.store import RebuildRunning, ViewStore
from projections.view import View

AT_ONCE: Final = 2
"""Views one process builds at the same time: folding is work of one core, and each holds a connection."""
_ELSEWHERE_SECONDS: Final = 1.0
_TELL_EVERY: Final = 500_000
"""Facts between two lines of the log about a long build."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """Sees to it that views have tables of this software's version."""

    store: ViewStore
    stores: Mapping[str, Store]
    catalog: Catalog
    turns: asyncio.Semaphore

    async def open(self, view: View) -> bool:
        """Tell whether the view can be read; makes its tables when no fact is there to be folded into them."""
        if await self.store.stands(view):
            return True
        for service in view.services:
            if (await self.stores[service].head()).position:
                return False
        await self.store.prepare(view)
        return True

    async def make(self, view: View) -> None:
        """Return once the view has live tables that lack nothing but the newest facts; then drop older versions.

        Raises UpgradeNeeded, StoreUnavailable, StoreFull.
        """
        while not await self.open(view):
            try:
                async with self.turns:
                    await self._build(view)
            except RebuildRunning:
                await asyncio.sleep(_ELSEWHERE_SECONDS)
        for version in await self.store.drop_older(view):
            _LOG.warning("view %s: version %d gave way to version %d", view.name, version, view.version)

    async def _build(self, view: View) -> None:
        if await self.store.stands(view):
            return  # made by another process while this one waited for its turn
        told = 0

        def tell(step: Progress) -> None:
            nonlocal told
            if step.done - told >= _TELL_EVERY:
                told = step.done
                _LOG.warning("view %s: %d of %d facts, %.0f/s", view.name, step.done, step.total, step.rate)

        report = await Rebuild(view, self.store, self.stores, self.catalog, tell).run()
        _LOG.warning(
            "view %s: version %d built from %d facts in %.1f s, %d parked",
            view.name,
            view.version,
            report.facts,
            report.seconds,
            report.parked,
        )


def make_versions(store: ViewStore, stores: Mapping[str, Store], catalog: Catalog) -> Versions:
    """Return the versions' keeper of one process."""
    return Versions(store, stores, catalog, asyncio.Semaphore(AT_ONCE))

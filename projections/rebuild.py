"""Rebuilds a view from the facts alone, beside the live one, compares the two and swaps them.

The rebuild folds to where the live view stands (to the head, when it has no checkpoint or the store was rewound). The
live runner keeps following; when the two are within a page of each other its writers are stopped for a moment, the
last facts are folded, both hashes are computed at the same positions, and the tables change places in one transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eventsourcing.persistence import Notification

from events.catalog import Catalog
from events.store import PAGE, Checkpoint, Store, StoreRewound, verify_checkpoint
from projections.fold import MAX_ROWS, Folder, Workspace
from projections.store import Building, ViewStore
from projections.view import View


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rebuild has come: facts read and to read, facts per second, seconds left."""

    done: int
    total: int
    rate: float
    seconds_left: float


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild came to. The hashes are of the live view before and after, at the same `positions`.

    `equal` tells whether they agree; `hash_before` is empty when there was no comparable live view.
    """

    view: str
    facts: int
    seconds: float
    hash_before: str
    hash_after: str
    equal: bool
    positions: Mapping[str, int]


class Rebuild:
    """One rebuild of one view."""

    def __init__(
        self,
        view: View,
        store: ViewStore,
        stores: Mapping[str, Store],
        catalog: Catalog,
        progress: Callable[[Progress], None] = lambda _progress: None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read facts from `stores` by service; `progress` is told after every page."""
        self._view = view
        self._store = store
        self._sources = {service: stores[service] for service in view.services}
        self._folder = Folder(view, catalog)
        self._workspace = Workspace(view, complete=True)
        self._tell = progress
        self._seconds = seconds
        self._reached = {service: Checkpoint(view.follower, service, 0, b"") for service in view.services}
        self._begun = 0.0
        self._total = 0

    async def run(self) -> RebuildReport:
        """Build, compare, swap. Raises RebuildRunning, UpgradeNeeded, StoreUnavailable, Poisoned."""
        self._begun = self._seconds()
        await self._store.prepare(self._view)
        async with self._store.rebuilding(self._view) as building:
            targets = await self._targets(await self._store.checkpoints(self._view.follower))
            while self._behind(targets):
                self._total = sum(targets.values())
                await self._fold(building, targets)
                targets = await self._targets(await self._store.checkpoints(self._view.follower), at_least=targets)
                if self._behind(targets) <= PAGE:
                    break
            await self._flush(building)
            await building.finish()
            return await self._swap(building)

    async def _swap(self, building: Building) -> RebuildReport:
        async with building.swapping() as swap:
            targets = await self._targets(swap.live, at_least=self._positions())
            await self._fold(building, targets)
            await self._flush(building)
            comparable = {name: live.position for name, live in swap.live.items()} == {
                name: position for name, position in self._positions().items() if position
            } and all(self._reached[name].record_hash == live.record_hash for name, live in swap.live.items())
            before, after = await swap.digests()
            await swap.replace({name: point for name, point in self._reached.items() if point.position})
        return RebuildReport(
            self._view.name,
            sum(self._positions().values()),
            self._seconds() - self._begun,
            before if comparable else "",
            after,
            comparable and before == after,
            self._positions(),
        )

    async def _targets(
        self, live: Mapping[str, Checkpoint], at_least: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Return where to fold to: the live checkpoint, or the head where there is none that holds."""
        targets = dict(at_least or {})
        for service, store in self._sources.items():
            if service in live:
                try:
                    await verify_checkpoint(store, live[service])
                    targets[service] = max(live[service].position, self._reached[service].position)
                    continue
                except StoreRewound:
                    pass
            if service not in targets:
                # Where other channels are under way and this one has not begun, the live view is compared as it is.
                begun = bool(live) and service not in live
                targets[service] = 0 if begun else (await store.head()).position
        return targets

    def _positions(self) -> dict[str, int]:
        return {service: point.position for service, point in self._reached.items()}

    def _behind(self, targets: Mapping[str, int]) -> int:
        return sum(max(target - self._reached[service].position, 0) for service, target in targets.items())

    async def _fold(self, building: Building, targets: Mapping[str, int]) -> None:
        for service, target in targets.items():
            after = self._reached[service].position
            if after >= target:
                continue
            page = await self._read(service, after, target)
            while page:
                # The next page travels while this one is folded.
                following = asyncio.ensure_future(self._read(service, page[-1].id, target))
                try:
                    await self._take(building, service, page)
                    page = await following
                finally:
                    following.cancel()

    async def _read(self, service: str, after: int, target: int) -> Sequence[Notification]:
        return await self._sources[service].read(after, min(PAGE, target - after)) if after < target else ()

    async def _take(self, building: Building, service: str, page: Sequence[Notification]) -> None:
        await asyncio.sleep(0)  # let the read that was just begun be sent
        if self._workspace.complete:
            self._folder.fold(self._workspace, service, page)
        else:
            changes = self._folder.collect(service, page)
            async with building.writing() as writer:
                await self._workspace.fetch(writer, changes)
            self._folder.apply(self._workspace, service, page, changes)
        last = page[-1]
        digest = hashlib.sha256(last.state).digest()
        self._reached[service] = Checkpoint(self._view.follower, service, last.id, digest)
        if self._workspace.size > MAX_ROWS:
            await self._flush(building)
            self._workspace.forget()
        self._report()

    async def _flush(self, building: Building) -> None:
        async with building.writing() as writer:
            await self._workspace.write(writer)
        self._workspace.written()

    def _report(self) -> None:
        done = sum(self._positions().values())
        rate = done / max(self._seconds() - self._begun, 1e-9)
        self._tell(Progress(done, max(self._total, done), rate, max(self._total - done, 0) / max(rate, 1e-9)))


async def rebuild(
    view: View,
    store: ViewStore,
    stores: Mapping[str, Store],
    catalog: Catalog,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> RebuildReport:
    """Rebuild `view` from the facts in `stores` and let the result take its place; see `Rebuild.run`."""
    return await Rebuild(view, store, stores, catalog, progress).run()

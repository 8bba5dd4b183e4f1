"""Rebuilds a view from the facts alone, beside the live one, compares the two and swaps them.

The rebuild folds to where the live view stands (to the head, when it has no checkpoint or the store was rewound). The
live runner keeps following; when the two are within a page of each other its writers are stopped for a moment, the
last facts are folded, both hashes are computed at the same positions (by partition, where the view follows those), and
the tables change places in one transaction.
Readers go on all the time. A check does the same but the last step.

Facts are folded in bulk, with rows at hand and written at the end. A poisonous fact makes such rows void, so the
rebuild then begins again in the way live facts are taken (`intake`), page by page, and parks it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from eventsourcing.persistence import Notification

from events.bus import Page
from events.catalog import Catalog
from events.channels import positions_by_service, service_of
from events.store import PAGE, Checkpoint, Store, StoreRewound, verify_checkpoint
from projections.edge import edge_of
from projections.fold import MAX_ADDED, MAX_ROWS, Folder, Poisoned, Workspace
from projections.intake import Intake
from projections.store import Building, Difference, RowsRefused, ViewNotBuilt, ViewStore
from projections.view import View

SHOWN: Final = 10
"""Differing rows a report names."""
_LOG: Final = logging.getLogger(__name__)
_SLICE: Final = 250
"""Facts folded without letting the event loop work."""


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

    `equal` tells whether they agree; `hash_before` is empty when there was no comparable live view. `differences` are
    the first rows that are not equal. `parked` facts could not be folded. A check leaves `swapped` False.
    """

    view: str
    facts: int
    seconds: float
    hash_before: str
    hash_after: str
    equal: bool
    positions: Mapping[str, int]
    parked: int = 0
    swapped: bool = True
    differences: Sequence[Difference] = ()


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
        self._catalog = catalog
        self._folder = Folder(view, catalog)
        self._tell = progress
        self._seconds = seconds
        self._begun = seconds()
        self._begin()

    def _begin(self) -> None:
        self._workspace = Workspace(self._view, complete=True)
        self._reached = {service: Checkpoint(self._view.follower, service, 0, b"") for service in self._view.services}
        self._careful: Intake | None = None
        self._rewound: set[str] = set()
        self._parked = 0
        self._total = 0

    async def run(self) -> RebuildReport:
        """Build, compare, swap. Raises RebuildRunning, UpgradeNeeded, StoreUnavailable; then the live view stays."""
        return await self._run(check=False)

    async def check(self) -> RebuildReport:
        """Build, compare, and change nothing. Raises like `run`, and ViewNotBuilt when there is no live view."""
        if not await self._store.stands(self._view):
            raise ViewNotBuilt(f"there is no live view {self._view.name} to compare with")
        return await self._run(check=True)

    async def _run(self, *, check: bool) -> RebuildReport:
        self._begun = self._seconds()
        try:
            return await self._build(check=check, careful=False)
        except (Poisoned, RowsRefused) as found:
            _LOG.warning("rebuild of %s begins again fact by fact: %s", self._view.name, found)
        return await self._build(check=check, careful=True)

    async def _build(self, *, check: bool, careful: bool) -> RebuildReport:
        self._begin()
        async with self._store.rebuilding(self._view) as building:
            if careful:
                self._careful = Intake(self._view, self._catalog, building.writing)
            await self._catch_up(building)
            await self._flush(building)
            if not check:
                await building.finish()
                await self._catch_up(building)  # with what came while indexes were made
            return await self._compare(building, check=check)

    async def _catch_up(self, building: Building) -> None:
        """Fold until the live view is at most a page ahead."""
        while True:
            targets = await self._targets(await building.live())
            if self._behind(targets) <= PAGE:
                return
            self._total = sum(targets.values())
            await self._fold(building, targets)

    async def _compare(self, building: Building, *, check: bool) -> RebuildReport:
        async with building.swapping() as swap:
            targets = await self._targets(swap.live)
            self._total = sum(targets.values())
            await self._fold(building, targets)
            standing = await self._fold_edges(building, swap.live)
            await self._flush(building)
            comparable = _places(standing) == _places(swap.live)
            before, after = await swap.digests()
            differences = await swap.differences(SHOWN) if comparable and before not in {"", after} else ()
            if not check:
                await swap.replace(standing)
        return RebuildReport(
            self._view.name,
            sum(self._positions().values()),
            self._seconds() - self._begun,
            before if comparable else "",
            after,
            comparable and before == after,
            {**dict.fromkeys(self._sources, 0), **positions_by_service(standing)},
            self._parked,
            not check,
            differences,
        )

    async def _targets(self, live: Mapping[str, Checkpoint]) -> dict[str, int]:
        """Return where to fold to: the live checkpoint, or the head where there is none that holds."""
        targets = {}
        lows = positions_by_service(live)
        for service, store in self._sources.items():
            try:
                for channel, at in live.items():
                    if service_of(channel) == service:
                        await verify_checkpoint(store, at)
                # Where other channels are under way and this one has not begun, the live view is compared as it is.
                target = lows.get(service, 0) if live else (await store.head()).position
            except StoreRewound:
                self._rewound.add(service)
                target = (await store.head()).position
            targets[service] = max(target, self._reached[service].position)
        return targets

    async def _fold_edges(self, building: Building, live: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
        """Fold what the live view's partitions hold beyond the lowest; return where both stand now, by channel."""
        standing: dict[str, Checkpoint] = {}
        for service in self._sources:
            at, edge = self._reached[service], edge_of(live, service)
            if edge is None or service in self._rewound or at.position != edge.low:
                standing.update({service: at} if at.position else {})
                continue
            after = edge.low
            while page := await self._read(service, after, edge.high):
                after = page[-1].id
                if held := [record for record in page if edge.holds(record)]:
                    await self._take(building, service, held)
            standing.update(edge.channels)
        return standing

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
        if self._careful is not None:
            await self._careful.take(Page(service, self._reached[service].position, page[-1].id, page))
        elif self._workspace.complete:
            # In slices: in between, the next page is taken off the socket, whose buffer holds a tenth of it.
            for start in range(0, len(page), _SLICE):
                await asyncio.sleep(0)
                self._folder.fold(self._workspace, service, page[start : start + _SLICE])
        else:
            await self._update(building, service, page)
        last = page[-1]
        digest = hashlib.sha256(last.state).digest()
        self._reached[service] = Checkpoint(self._view.follower, service, last.id, digest)
        if self._workspace.added > MAX_ADDED:
            await self._flush(building)
        if self._workspace.at_hand > MAX_ROWS:
            await self._flush(building)
            self._workspace.forget()
        self._report()

    async def _update(self, building: Building, service: str, page: Sequence[Notification]) -> None:
        """Fold a page over rows of which some were written and let go."""
        outcomes, unknown = self._folder.gather(page)
        if unknown is not None:
            raise unknown
        async with building.writing() as writer:
            await self._workspace.fetch(writer, outcomes)
        for record, outcome in zip(page, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise Poisoned(self._view.name, service, record.id) from outcome
            try:
                self._workspace.apply(outcome)
            except Exception as error:
                raise Poisoned(self._view.name, service, record.id) from error

    async def _flush(self, building: Building) -> None:
        async with building.writing() as writer:
            await self._workspace.write(writer)
            if self._careful is not None:
                self._parked = await writer.parked_count()
        self._workspace.written()

    def _report(self) -> None:
        done = sum(self._positions().values())
        rate = done / max(self._seconds() - self._begun, 1e-9)
        self._tell(Progress(done, max(self._total, done), rate, max(self._total - done, 0) / max(rate, 1e-9)))


def _places(checkpoints: Mapping[str, Checkpoint]) -> dict[str, tuple[int, bytes]]:
    return {channel: (at.position, at.record_hash) for channel, at in checkpoints.items()}


async def rebuild(
    view: View,
    store: ViewStore,
    stores: Mapping[str, Store],
    catalog: Catalog,
    progress: Callable[[Progress], None] = lambda _progress: None,
) -> RebuildReport:
    """Rebuild `view` from the facts in `stores` and let the result take its place; see `Rebuild.run`."""
    return await Rebuild(view, store, stores, catalog, progress).run()

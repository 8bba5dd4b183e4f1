"""Folds parked facts again, in order, once the fold or what it met is repaired.

The live runner may be at work: every batch is one transaction of the view's one writer. A stream whose parked facts
are all folded is free from that transaction on; one that still cannot be folded stays parked from that fact on, and
says why anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from eventsourcing.persistence import Notification

from events.catalog import Catalog
from events.parked import Parked, stream_of
from events.store import PAGE, Store
from projections.fold import Folder, Outcome, Workspace
from projections.intake import reason
from projections.store import RowsRefused, ViewStore, Writer
from projections.view import View

BATCH: Final = 1_000
"""Parked facts folded in one transaction."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """How many parked facts are folded now, and how many still wait, with why the first of each stream does."""

    view: str
    folded: int
    parked: int
    alarms: Sequence[Parked]


class RecordGone(Exception):
    """A parked fact's record is not in its store: the store was restored from an older backup, or is another one."""

    def __init__(self, parked: Parked) -> None:
        """Say which one."""
        super().__init__(
            f"{parked.follower} has parked position {parked.position} of {parked.service}, which holds no such record: "
            f"rebuild the view"
        )
        self.parked = parked


class Repair:
    """One repair of one view."""

    def __init__(self, view: View, store: ViewStore, stores: Mapping[str, Store], catalog: Catalog) -> None:
        """Read the parked facts' records from `stores` by service."""
        self._view = view
        self._store = store
        self._stores = stores
        self._folder = Folder(view, catalog)
        self._stuck: dict[tuple[str, str], int] = {}
        self._folded = 0

    async def run(self) -> RepairReport:
        """Fold what can be folded. Raises ViewNotBuilt, RecordGone, UpgradeNeeded, StoreUnavailable."""
        after, limit = ("", 0), BATCH
        while True:
            try:
                batch = await self._batch(after, limit)
            except RowsRefused as refused:
                if limit > 1:
                    limit //= 2
                    continue
                batch = await self._keep_one(after, refused)
            if not batch:
                break
            after, limit = (batch[-1].service, batch[-1].position), min(limit * 2, BATCH)
        counts = await self._store.parked_counts()
        alarms = [each for each in await self._store.alarms() if each.follower == self._view.follower]
        return RepairReport(self._view.name, self._folded, counts.get(self._view.follower, 0), alarms)

    async def _batch(self, after: tuple[str, int], limit: int) -> Sequence[Parked]:
        """Fold the next parked facts in one transaction; return them, empty at the end."""
        async with self._store.writing(self._view) as writer:
            batch = await writer.parked(after, limit)
            if not batch:
                return batch
            records = await self._records(batch)
            outcomes, unknown = self._folder.gather(records)
            if unknown is not None:
                raise unknown
            stuck = dict(self._stuck)
            done, still = await self._fold(writer, batch, records, outcomes, stuck)
            await writer.release(done)
            await writer.park(still)
        self._stuck = stuck
        self._folded += len(done)
        return batch

    async def _fold(
        self,
        writer: Writer,
        batch: Sequence[Parked],
        records: Sequence[Notification],
        outcomes: Sequence[Outcome],
        stuck: dict[tuple[str, str], int],
    ) -> tuple[list[Parked], list[Parked]]:
        """Return which facts are folded now, and those that begin a stream's wait, with their error."""
        workspace = Workspace(self._view)
        # The rows of a stuck stream are not wanted, and may be what the store refuses to look for.
        wanted = [each for record, each in zip(records, outcomes, strict=True) if stream_of(record) not in stuck]
        await workspace.fetch(writer, wanted)
        done, still = [], []
        for parked, record, outcome in zip(batch, records, outcomes, strict=True):
            where = stream_of(record)
            if where in stuck:
                continue
            try:
                if isinstance(outcome, Exception):
                    raise outcome  # noqa: TRY301 - what the fold raised before, on the same way as what it raises now
                workspace.apply_whole(outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's
                stuck[where] = parked.position
                still.append(replace(parked, error=reason(error), first=True))
            else:
                done.append(parked)
        await workspace.write(writer)
        return done, still

    async def _keep_one(self, after: tuple[str, int], refused: RowsRefused) -> Sequence[Parked]:
        """Leave the next parked fact where it is: the store refuses its rows."""
        async with self._store.writing(self._view) as writer:
            batch = await writer.parked(after, 1)
            await writer.park([replace(each, error=reason(refused), first=True) for each in batch])
        self._stuck.update(((each.service, each.stream), each.position) for each in batch)
        return batch

    async def _records(self, batch: Sequence[Parked]) -> list[Notification]:
        """Read the records of parked facts, those that lie close together at once."""
        found: dict[tuple[str, int], Notification] = {}
        last = {parked.service: parked.position for parked in batch}
        for parked in batch:
            if (parked.service, parked.position) not in found:
                limit = min(PAGE, last[parked.service] - parked.position + 1)
                for record in await self._stores[parked.service].read(parked.position - 1, limit):
                    found[parked.service, record.id] = record
            if (parked.service, parked.position) not in found:
                raise RecordGone(parked)
        return [found[parked.service, parked.position] for parked in batch]

"""Takes pages into a view's tables; a fact that cannot be folded is parked, and with it what follows in its stream.

A page is one transaction: the checkpoint, the rows, the parked facts. It is folded quickly first. When an update
raises, it is folded again with every fact either whole or not at all; when the store refuses a row, it is halved until
the fact that made the row stands alone. Either way the poisonous fact is parked with its error and the page goes on.
Parking keeps the order within a stream, which is all the order a fold may rely on: so the parked facts can be folded
later, and the result is that of a clean rebuild.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from eventsourcing.persistence import Notification

from events.bus import Page
from events.catalog import Catalog
from events.parked import Parked, park, stream_of, told
from events.store import Move
from projections.fold import Folder, Outcome, Poisoned, Workspace
from projections.store import RowsRefused, Writer
from projections.view import View


class Intake:
    """The way of pages into the tables that `writing` opens."""

    def __init__(
        self, view: View, catalog: Catalog, writing: Callable[[], AbstractAsyncContextManager[Writer]]
    ) -> None:
        """Write through transactions of the caller's."""
        self._view = view
        self._folder = Folder(view, catalog)
        self._writing = writing

    async def take(self, page: Page) -> Sequence[Parked]:
        """Fold and commit one page; return the facts that are parked with an error of their own.

        Raises CheckpointMoved and StoreError: nothing of the page that was not committed before is kept. Raises
        UpgradeNeeded for a type nobody knows, once everything before it is committed.
        """
        outcomes, unknown = self._folder.gather(page.records)
        alarms: Sequence[Parked] = ()
        if outcomes or not page.records:
            alarms = await self._take(part(page, 0, len(outcomes)), outcomes)
        if unknown is not None:
            raise unknown
        return alarms

    async def _take(self, page: Page, outcomes: Sequence[Outcome]) -> Sequence[Parked]:
        try:
            try:
                return await self._commit(page, outcomes, careful=False)
            except Poisoned:
                return await self._commit(page, outcomes, careful=True)
        except RowsRefused as refused:
            if len(outcomes) == 1:
                return await self._commit(page, [refused], careful=True)
            middle = len(outcomes) // 2
            first = await self._take(part(page, 0, middle), outcomes[:middle])
            return [*first, *await self._take(part(page, middle, len(outcomes)), outcomes[middle:])]

    async def _commit(self, page: Page, outcomes: Sequence[Outcome], *, careful: bool) -> Sequence[Parked]:
        workspace = Workspace(self._view)
        async with self._writing() as writer:
            # First the checkpoint: only its winner reads rows, so no row is folded from a stale one.
            went_on = [each for each in (page, *page.quiet) if each.last > each.before]
            await writer.move([Move(each.before, each.checkpoint(writer.follower)) for each in went_on])
            blocked = dict(await writer.blocked())
            await workspace.fetch(writer, outcomes)
            parked: list[Parked] = []
            for record, outcome in zip(page.records, outcomes, strict=True):
                error = self._apply(workspace, record, outcome, blocked, careful=careful)
                if error is not None:
                    first = blocked.setdefault(stream_of(record), record.id) == record.id
                    parked.append(park(writer.follower, page.channel, record, error, first=first))
            await workspace.write(writer)
            if parked:
                await writer.park(parked)
        return [each for each in parked if each.first]

    def _apply(
        self,
        workspace: Workspace,
        record: Notification,
        outcome: Outcome,
        blocked: dict[tuple[str, str], int],
        *,
        careful: bool,
    ) -> str | None:
        """Apply a record's changes; return why it is parked instead. Raises Poisoned unless `careful`."""
        if blocked and (first := blocked.get(stream_of(record))) is not None:
            return f"waits behind position {first} of its stream"
        if isinstance(outcome, Exception):
            return reason(outcome)
        try:
            if careful:
                workspace.apply_whole(outcome)
            else:
                workspace.apply(outcome)
        except Exception as error:
            if careful:
                return reason(error)
            raise Poisoned(self._view.name, stream_of(record)[0], record.id) from error
        return None


def reason(error: BaseException) -> str:
    """Return an error, or what made a store refuse, as the text kept with a parked fact."""
    return told(error.__cause__ if isinstance(error, RowsRefused) and error.__cause__ is not None else error)


def part(page: Page, start: int, stop: int) -> Page:
    """Return the page's records `start` to `stop`, with the positions they stand at."""
    before = page.records[start - 1].id if start else page.before
    if stop == len(page.records):
        return replace(page, before=before, records=page.records[start:])
    return Page(page.channel, before, page.records[stop - 1].id, page.records[start:stop])

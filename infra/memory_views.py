"""Views in memory: the promises of PostgreSQL but durability, for tests of folds and for trying things out."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import operator
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from events.parked import Parked
from events.store import Checkpoint
from infra.memory_view_rows import Aside, MemoryWriter, Points, Rows
from projections.store import Difference, RebuildRunning, Select, ViewNotBuilt
from projections.view import View

_OPERATORS: Final = {"=": operator.eq, ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(slots=True)
class _Kept:
    """One version of a view: its rows, None before it is built; what it has parked; what guards them."""

    view: View
    rows: Rows | None = None
    aside: Aside = field(default_factory=dict)
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    building: bool = False


class MemorySnapshot:
    """One moment of all views."""

    def __init__(self, rows: Mapping[str, Rows], points: Points) -> None:
        """Keep copies made by the caller."""
        self._rows = rows
        self._points = points

    async def checkpoints(self, view: View) -> Mapping[str, Checkpoint]:
        """Return the positions the view's rows reflect."""
        return {channel: point for (name, channel), point in self._points.items() if name == view.follower}

    async def select(self, select: Select) -> Sequence[Any]:
        """Return rows; a column that is None fulfils no condition."""
        rows = next(rows[select.table] for rows in self._rows.values() if select.table in rows)
        found = [
            row
            for row in rows.values()
            if all(
                getattr(row, column) is not None and _OPERATORS[sign](getattr(row, column), value)
                for column, sign, value in select.where
            )
        ]
        order = select.sorted_by
        found.sort(key=lambda row: _values(row, order), reverse=select.descending)
        if select.after is not None:
            beyond = operator.lt if select.descending else operator.gt
            found = [row for row in found if beyond(_values(row, order), select.after)]
        return found[: select.limit]

    async def digest(self, view: View) -> str:
        """Return the hash of all rows in the order of their keys."""
        return _digest(view, self._rows[view.follower])


def _values(row: Any, columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, column) for column in columns)


def _digest(view: View, rows: Rows) -> str:
    digest = hashlib.sha256()
    for table in view.tables:
        digest.update(table.name.encode())
        for _, row in sorted(rows[table].items()):
            digest.update(msgspec.json.encode(msgspec.structs.astuple(row)))
    return digest.hexdigest()


class MemorySwap:
    """The live view and its rebuild, with the writers stopped."""

    def __init__(self, kept: _Kept, building: MemoryBuilding, points: Points) -> None:
        """Compare what was built with what is kept."""
        self._kept = kept
        self._building = building
        self._points = points

    @property
    def live(self) -> Mapping[str, Checkpoint]:
        """Where the live view stands."""
        return _standing(self._points, self._kept.view.follower)

    async def digests(self) -> tuple[str, str]:
        """Return both hashes."""
        view, live = self._kept.view, self._kept.rows
        return _digest(view, live) if live is not None else "", _digest(view, self._building.rows)

    async def differences(self, limit: int) -> Sequence[Difference]:
        """Return the first rows that differ."""
        found = []
        for table in self._kept.view.tables:
            live, built = (rows[table] if rows else {} for rows in (self._kept.rows, self._building.rows))
            differing = [key for key in sorted({*live, *built}) if live.get(key) != built.get(key)]
            found += [Difference(table.name, live.get(key), built.get(key)) for key in differing]
        return found[:limit]

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Let the rebuilt rows be the live ones."""
        follower = self._kept.view.follower
        self._kept.rows = self._building.rows
        self._kept.aside = {key: replace(each, follower=follower) for key, each in self._building.aside.items()}
        for channel in self.live:
            del self._points[follower, channel]
        self._points.update({(follower, channel): point for channel, point in reached.items()})


class MemoryBuilding:
    """The rows of a rebuild under way."""

    def __init__(self, kept: _Kept, points: Points) -> None:
        """Begin empty."""
        self._kept = kept
        self._points = points
        self._own: Points = {}
        self.rows: Rows = {table: {} for table in kept.view.tables}
        self.aside: Aside = {}

    async def live(self) -> Mapping[str, Checkpoint]:
        """Return where the live view stands now."""
        return _standing(self._points, self._kept.view.follower)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[MemoryWriter]:
        """Write to the new rows."""
        writer = MemoryWriter(f"building/{self._kept.view.name}", self.rows, self._own, self.aside)
        yield writer
        writer.commit()

    async def finish(self) -> None:
        """Nothing is quicker made at the end here."""

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator[MemorySwap]:
        """Stop the live writers."""
        async with self._kept.writer:
            yield MemorySwap(self._kept, self, self._points)


def _standing(points: Points, follower: str) -> Mapping[str, Checkpoint]:
    return {channel: point for (name, channel), point in points.items() if name == follower}


class MemoryViews:
    """Keeps the rows of any number of views."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, _Kept] = {}
        self._points: Points = {}

    def _of(self, view: View) -> _Kept:
        return self._kept.setdefault(view.follower, _Kept(view))

    async def stands(self, view: View) -> bool:
        """Tell whether the view has rows, if only none."""
        return self._of(view).rows is not None

    async def prepare(self, view: View) -> None:
        """Make room for the view's rows."""
        kept = self._of(view)
        if kept.rows is None:
            kept.rows = {table: {} for table in view.tables}

    async def drop_older(self, view: View) -> Sequence[int]:
        """Drop what belongs to lower versions of the view."""
        older = [kept.view for kept in self._kept.values() if kept.view.name == view.name]
        older = [each for each in older if each.version < view.version]
        for each in older:
            del self._kept[each.follower]
            for channel in _standing(self._points, each.follower):
                del self._points[each.follower, channel]
        return [each.version for each in older]

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        return _standing(self._points, follower)

    async def alarms(self) -> Sequence[Parked]:
        """Return the first parked fact of every stream of every view."""
        return [each for name in sorted(self._kept) for _, each in sorted(self._kept[name].aside.items()) if each.first]

    async def parked_counts(self) -> Mapping[str, int]:
        """Return how many facts views have parked."""
        return {name: len(kept.aside) for name, kept in self._kept.items() if kept.aside}

    @asynccontextmanager
    async def writing(self, view: View) -> AsyncIterator[MemoryWriter]:
        """Take the view's turn; leaving without an error commits."""
        kept = self._of(view)
        async with kept.writer:
            if kept.rows is None:
                raise ViewNotBuilt(f"not built yet: {view.name} (version {view.version})")
            writer = MemoryWriter(view.follower, kept.rows, self._points, kept.aside)
            yield writer
            writer.commit()

    @asynccontextmanager
    async def reading(self, *views: View) -> AsyncIterator[MemorySnapshot]:
        """Copy the moment."""
        moment: dict[str, Rows] = {}
        for view in views:
            rows = self._of(view).rows
            if rows is None:
                raise ViewNotBuilt(f"not built yet: {view.name} (version {view.version})")
            moment[view.follower] = {
                table: {key: copy.copy(row) for key, row in of_one.items()} for table, of_one in rows.items()
            }
        yield MemorySnapshot(moment, dict(self._points))

    @asynccontextmanager
    async def rebuilding(self, view: View) -> AsyncIterator[MemoryBuilding]:
        """Build beside the live rows; one rebuild of a view at a time."""
        kept = self._of(view)
        if kept.building:
            raise RebuildRunning(f"{view.name} is being rebuilt")
        kept.building = True
        try:
            yield MemoryBuilding(kept, self._points)
        finally:
            kept.building = False

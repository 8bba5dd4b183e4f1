"""Views in memory: the promises of PostgreSQL but durability, for tests of folds and for trying things out."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import operator
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from events.store import Checkpoint, CheckpointMoved, Move
from projections.store import RebuildRunning, Select
from projections.view import Row, Table, View

_OPERATORS: Final = {"=": operator.eq, ">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}

Rows = dict[Table, dict[Any, Row]]
Points = dict[tuple[str, str], Checkpoint]


@dataclass(slots=True)
class _Kept:
    """One view: its rows and what guards them."""

    rows: Rows
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    building: bool = False


class MemoryWriter:
    """One transaction; what it writes is kept aside until it ends well."""

    def __init__(self, rows: Rows, points: Points) -> None:
        """Read from `rows` and `points`."""
        self._rows = rows
        self._points = points
        self.written: list[tuple[Table, Row]] = []
        self.moved: Points = {}

    async def fetch(self, table: Table, keys: Iterable[Any]) -> Sequence[Row]:
        """Return copies of those rows of `keys` that exist."""
        assert not table.append_only
        rows = self._rows[table]
        return [copy.copy(rows[key]) for key in keys if key in rows]

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Set rows aside for the commit; an append-only row that exists is a mistake."""
        for row in rows:
            assert not table.append_only or table.key_of(row) not in self._rows[table], row
            self.written.append((table, copy.copy(row)))

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints by compare-and-swap."""
        for move in moves:
            key = (move.after.follower, move.after.channel)
            now = self._points.get(key)
            if (now.position if now else 0) != move.before:
                raise CheckpointMoved(f"{key[0]} on {key[1]} stands at {now}")
            self.moved[key] = move.after

    def commit(self) -> None:
        """Let everything be seen."""
        for table, row in self.written:
            self._rows[table][table.key_of(row)] = row
        self._points.update(self.moved)


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

    def __init__(self, view: View, kept: _Kept, built: Rows, points: Points) -> None:
        """Compare `built` with what is kept."""
        self._view = view
        self._kept = kept
        self._built = built
        self._points = points

    @property
    def live(self) -> Mapping[str, Checkpoint]:
        """Where the live view stands."""
        return {channel: at for (name, channel), at in self._points.items() if name == self._view.follower}

    async def digests(self) -> tuple[str, str]:
        """Return both hashes."""
        return _digest(self._view, self._kept.rows), _digest(self._view, self._built)

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Let the rebuilt rows be the live ones."""
        self._kept.rows = self._built
        for channel in self.live:
            del self._points[self._view.follower, channel]
        self._points.update({(self._view.follower, channel): point for channel, point in reached.items()})


class MemoryBuilding:
    """The rows of a rebuild under way."""

    def __init__(self, view: View, kept: _Kept, points: Points) -> None:
        """Begin empty."""
        self._view = view
        self._kept = kept
        self._points = points
        self._rows: Rows = {table: {} for table in view.tables}

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[MemoryWriter]:
        """Write to the new rows."""
        writer = MemoryWriter(self._rows, {})
        yield writer
        writer.commit()

    async def finish(self) -> None:
        """Nothing is quicker made at the end here."""

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator[MemorySwap]:
        """Stop the live writers."""
        async with self._kept.writer:
            yield MemorySwap(self._view, self._kept, self._rows, self._points)


class MemoryViews:
    """Keeps the rows of any number of views."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: dict[str, _Kept] = {}
        self._points: Points = {}

    async def prepare(self, view: View) -> None:
        """Make room for the view's rows."""
        self._kept.setdefault(view.follower, _Kept({table: {} for table in view.tables}))

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        return {channel: point for (name, channel), point in self._points.items() if name == follower}

    @asynccontextmanager
    async def writing(self, view: View) -> AsyncIterator[MemoryWriter]:
        """Take the view's turn; leaving without an error commits."""
        kept = self._kept[view.follower]
        async with kept.writer:
            writer = MemoryWriter(kept.rows, self._points)
            yield writer
            writer.commit()

    @asynccontextmanager
    async def reading(self, *views: View) -> AsyncIterator[MemorySnapshot]:
        """Copy the moment."""
        rows = {
            view.follower: {
                table: {key: copy.copy(row) for key, row in rows.items()}
                for table, rows in self._kept[view.follower].rows.items()
            }
            for view in views
        }
        yield MemorySnapshot(rows, dict(self._points))

    @asynccontextmanager
    async def rebuilding(self, view: View) -> AsyncIterator[MemoryBuilding]:
        """Build beside the live rows; one rebuild of a view at a time."""
        kept = self._kept[view.follower]
        if kept.building:
            raise RebuildRunning(f"{view.name} is being rebuilt")
        kept.building = True
        try:
            yield MemoryBuilding(view, kept, self._points)
        finally:
            kept.building = False

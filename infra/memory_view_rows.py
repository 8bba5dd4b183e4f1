"""One transaction on rows in memory, and what they refuse as a database would."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from events.parked import Parked
from events.store import Checkpoint, CheckpointMoved, Move
from projections.store import RowsRefused
from projections.view import Row, Table

Rows = dict[Table, dict[Any, Row]]
Points = dict[tuple[str, str], Checkpoint]
Aside = dict[tuple[str, int], Parked]
"""Parked facts of one view by service and position."""


class MemoryWriter:
    """One transaction; what it writes is kept aside until it ends well."""

    def __init__(self, follower: str, rows: Rows, points: Points, aside: Aside) -> None:
        """Read from `rows`, `points` and the parked facts of `aside`."""
        self._follower = follower
        self._rows = rows
        self._points = points
        self._aside = aside
        self._parked = dict(aside)
        self.written: list[tuple[Table, Row]] = []
        self.moved: Points = {}

    @property
    def follower(self) -> str:
        """The name its checkpoints and parked facts stand under."""
        return self._follower

    async def fetch(self, table: Table, keys: Iterable[Any]) -> Sequence[Row]:
        """Return copies of those rows of `keys` that exist."""
        assert not table.append_only
        rows = self._rows[table]
        wanted = list(keys)
        for key in wanted:
            _check(key if isinstance(key, tuple) else (key,))
        return [copy.copy(rows[key]) for key in wanted if key in rows]

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Set rows aside for the commit."""
        for row in rows:
            if table.append_only and table.key_of(row) in self._rows[table]:
                raise RowsRefused(f"{table.name} has a row of that key: {row}")
            _check(msgspec.structs.astuple(row))
            self.written.append((table, copy.copy(row)))

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints by compare-and-swap."""
        for move in moves:
            key = (move.after.follower, move.after.channel)
            now = self._points.get(key)
            if (now.position if now else 0) != move.before:
                raise CheckpointMoved(f"{key[0]} on {key[1]} stands at {now}")
            self.moved[key] = move.after

    async def blocked(self) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        return {(each.service, each.stream): each.position for each in self._parked.values() if each.first}

    async def park(self, facts: Sequence[Parked]) -> None:
        """Set facts aside, or say anew why one is."""
        for fact in facts:
            before = self._parked.get((fact.service, fact.position))
            since = before.parked_us if before else time.time_ns() // 1_000
            self._parked[fact.service, fact.position] = replace(fact, parked_us=since)

    async def parked(self, after: tuple[str, int], limit: int) -> Sequence[Parked]:
        """Return parked facts beyond `after` in order."""
        return [self._parked[key] for key in sorted(self._parked) if key > after][:limit]

    async def parked_count(self) -> int:
        """Return how many facts are parked."""
        return len(self._parked)

    async def release(self, facts: Sequence[Parked]) -> None:
        """Forget parked facts; the first one left of each of their streams blocks the rest."""
        freed = {(fact.service, fact.stream) for fact in facts}
        for fact in facts:
            self._parked.pop((fact.service, fact.position), None)
        for key in sorted(self._parked):
            left = self._parked[key]
            if (left.service, left.stream) in freed:
                freed.discard((left.service, left.stream))
                self._parked[key] = replace(left, first=True)

    def commit(self) -> None:
        """Let everything be seen."""
        for table, row in self.written:
            self._rows[table][table.key_of(row)] = row
        self._points.update(self.moved)
        self._aside.clear()
        self._aside.update(self._parked)


def _check(values: Iterable[Any]) -> None:
    """Refuse what no column of a database could hold."""
    for value in values:
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RowsRefused(f"{value} has more than 64 bits")
        if isinstance(value, str) and ("\0" in value or (not value.isprintable() and _lone(value))):
            raise RowsRefused(f"{value!r} is no text")


def _lone(text: str) -> bool:
    """Tell whether there is half a character in it."""
    return any("\ud800" <= character <= "\udfff" for character in text)

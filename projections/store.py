"""The port of the projection runner: where views keep their rows and how far they have come.

Rows, and the checkpoint they reflect, become visible together or not at all. A reader sees one moment: rows and
positions that belong together, however many selections it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from events.store import Checkpoint, Move
from projections.view import Row, Table, View

Operator = Literal["=", ">=", ">", "<=", "<"]


@dataclass(frozen=True, slots=True)
class Select:
    """Rows of one table that fulfil every condition `(column, operator, value)`, in the order of some columns.

    `order` is the key when empty, and ends in the key or is unique otherwise; `after` holds the values of its columns
    in the last row already seen.
    """

    table: Table
    where: tuple[tuple[str, Operator, Any], ...] = ()
    order: tuple[str, ...] = ()
    descending: bool = False
    after: tuple[Any, ...] | None = None
    limit: int = 100

    @property
    def sorted_by(self) -> tuple[str, ...]:
        """The columns of the order, the key when none were named."""
        return self.order or self.table.key


class Writer(Protocol):
    """One transaction on a view's tables. Leaving its context without an error commits; an error rolls back."""

    async def fetch(self, table: Table, keys: Iterable[Any]) -> Sequence[Row]:
        """Return those rows of `keys` that exist."""
        ...

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert the rows, replacing those with the same key; rows of an append-only table are new ones."""
        ...

    async def move(self, moves: Sequence[Move]) -> None:
        """Move the view's checkpoints by compare-and-swap; raises CheckpointMoved when another was faster."""
        ...


class Swap(Protocol):
    """A finished rebuild beside the live view, while nobody else can write to either."""

    @property
    def live(self) -> Mapping[str, Checkpoint]:
        """Where the live view stands, by channel. It moves no more before the swap is over."""
        ...

    async def digests(self) -> tuple[str, str]:
        """Return the hashes of the live and of the rebuilt view, see `Snapshot.digest`."""
        ...

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Let the rebuilt tables be the live ones, standing at `reached`."""
        ...


class Snapshot(Protocol):
    """One moment of the views that were named when it was opened."""

    async def checkpoints(self, view: View) -> Mapping[str, Checkpoint]:
        """Return the positions the view's rows reflect, by channel."""
        ...

    async def select(self, select: Select) -> Sequence[Any]:
        """Return rows, at most `select.limit`."""
        ...

    async def digest(self, view: View) -> str:
        """Return the SHA-256 (hex) over the canonical text of all rows of all tables, ordered by primary key."""
        ...


class RebuildRunning(Exception):
    """Another process is rebuilding this view."""


class ViewStore(Protocol):
    """Keeps the tables of views. Every method may raise StoreUnavailable and StoreFull."""

    async def prepare(self, view: View) -> None:
        """Make the view's tables where they are missing."""
        ...

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        ...

    def writing(self, view: View) -> AbstractAsyncContextManager[Writer]:
        """Write to the live tables; one writer of a view at a time, others wait."""
        ...

    def reading(self, *views: View) -> AbstractAsyncContextManager[Snapshot]:
        """Read the live tables of these views at one moment, without holding up any writer."""
        ...

    def rebuilding(self, view: View) -> AbstractAsyncContextManager[Building]:
        """Make empty tables beside the live ones; dropped at the end unless swapped. Raises RebuildRunning."""
        ...


class Building(Protocol):
    """The tables of a rebuild under way."""

    def writing(self) -> AbstractAsyncContextManager[Writer]:
        """Write to the new tables; checkpoints stay."""
        ...

    async def finish(self) -> None:
        """Make what is quicker made at the end (indexes)."""
        ...

    def swapping(self) -> AbstractAsyncContextManager[Swap]:
        """Stop the live view's writers for a moment; one transaction with the swap."""
        ...

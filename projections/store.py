"""The port of the projection runner: where views keep their rows and how far they have come.

Rows, and the checkpoint they reflect, become visible together or not at all. A reader sees one moment: rows and
positions that belong together, however many selections it makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from events.parked import Parked
from events.store import Checkpoint, Move, StoreUnavailable
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


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that differs between a live view and its rebuild; None where there is no such row."""

    table: str
    live: Row | None
    rebuilt: Row | None


class RowsRefused(Exception):
    """The store cannot hold a row or look for a key of this transaction, however often it is tried.

    A number beyond 64 bits, a text with U+0000, a second row of the same key in an append-only table. `__cause__`
    is what the adapter heard.
    """


class ViewNotBuilt(StoreUnavailable):
    """This version of the view has no tables: it is being built, or nobody has begun to."""


class Writer(Protocol):
    """One transaction on a view's tables. Leaving its context without an error commits; an error rolls back."""

    @property
    def follower(self) -> str:
        """The name its checkpoints and parked facts stand under."""
        ...

    async def fetch(self, table: Table, keys: Iterable[Any]) -> Sequence[Row]:
        """Return those rows of `keys` that exist. Raises RowsRefused."""
        ...

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert the rows, replacing those with the same key; rows of an append-only table are new ones.

        Raises RowsRefused.
        """
        ...

    async def move(self, moves: Sequence[Move]) -> None:
        """Move the view's checkpoints by compare-and-swap; raises CheckpointMoved when another was faster."""
        ...

    async def blocked(self) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        ...

    async def park(self, facts: Sequence[Parked]) -> None:
        """Set facts aside, or say anew why one is."""
        ...

    async def parked(self, after: tuple[str, int], limit: int) -> Sequence[Parked]:
        """Return parked facts beyond `after` (service, position), in that order, at most `limit`."""
        ...

    async def parked_count(self) -> int:
        """Return how many facts are parked."""
        ...

    async def release(self, facts: Sequence[Parked]) -> None:
        """Forget parked facts; of each of their streams the first one left blocks the rest from now on."""
        ...


class Swap(Protocol):
    """A finished rebuild beside the live view, while nobody else can write to either."""

    @property
    def live(self) -> Mapping[str, Checkpoint]:
        """Where the live view stands, by channel. It moves no more before the swap is over."""
        ...

    async def digests(self) -> tuple[str, str]:
        """Return the hashes of the live (empty: there is none) and of the rebuilt view, see `Snapshot.digest`."""
        ...

    async def differences(self, limit: int) -> Sequence[Difference]:
        """Return the first rows that differ, by table and key."""
        ...

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Let the rebuilt tables and their parked facts be the live ones, standing at `reached`.

        Readers wait for moments only, and none fails. Raises StoreUnavailable when readers hold the old tables for
        too long; then nothing has changed.
        """
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

    async def stands(self, view: View) -> bool:
        """Tell whether this version of the view has live tables."""
        ...

    async def prepare(self, view: View) -> None:
        """Make the view's live tables, empty, where they are missing."""
        ...

    async def drop_older(self, view: View) -> Sequence[int]:
        """Drop tables, checkpoints and parked facts of the view's lower versions; return those versions."""
        ...

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        ...

    async def alarms(self) -> Sequence[Parked]:
        """Return of all views the first parked fact of every stream that has one."""
        ...

    async def parked_counts(self) -> Mapping[str, int]:
        """Return how many facts each follower has parked, for those that have any."""
        ...

    def writing(self, view: View) -> AbstractAsyncContextManager[Writer]:
        """Write to the live tables; one writer of a view at a time, others wait. Raises ViewNotBuilt."""
        ...

    def reading(self, *views: View) -> AbstractAsyncContextManager[Snapshot]:
        """Read the live tables of these views at one moment, without holding up any writer. Raises ViewNotBuilt."""
        ...

    def rebuilding(self, view: View) -> AbstractAsyncContextManager[Building]:
        """Make empty tables beside the live ones; dropped at the end unless swapped. Raises RebuildRunning.

        Holds one connection from beginning to end, and waits for it when many rebuilds are under way, so that these
        never use up what others need.
        """
        ...


class Building(Protocol):
    """The tables of a rebuild under way. One thing at a time; inside `swapping` all belongs to its transaction."""

    async def live(self) -> Mapping[str, Checkpoint]:
        """Return where the live view stands now, by channel."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Writer]:
        """Write to the new tables; their checkpoints and parked facts stand under a name of their own."""
        ...

    async def finish(self) -> None:
        """Make what is quicker made at the end (indexes)."""
        ...

    def swapping(self) -> AbstractAsyncContextManager[Swap]:
        """Stop the live view's writers for a moment; one transaction with the swap."""
        ...

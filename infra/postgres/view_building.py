"""A rebuild on PostgreSQL: tables beside the live ones, on one connection from the beginning to the swap.

One connection: so any number of rebuilds may be under way without one waiting for a connection another one holds.

The swap needs the live tables for itself for a moment, and a reader who comes meanwhile waits. To keep that moment
short even while a long reader is at work (a dump), the lock is asked for again and again with little patience; in
between, readers pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.store import Checkpoint, StoreUnavailable
from infra.postgres.pool import translated
from infra.postgres.schema import lock_key
from infra.postgres.view_rows import PostgresWriter, differences_of, digest_of, read_checkpoints
from infra.postgres.view_tables import (
    BUILDING,
    LIVE,
    building_follower,
    checkpoint_table,
    create_indexes,
    parked_table,
    qualified,
    tables_stand,
)
from projections.store import Difference
from projections.view import Table, View

LONG_SECONDS: Final = 3_600
"""For statements that walk whole tables."""

PATIENCE_MS: Final = (50,) * 20 + (200,) * 20 + (1_500,) * 4
"""How long each attempt waits for readers to end, so how long new readers may have to wait for it.

The last ones are longer than the server's `deadlock_timeout`: then it ends an automatic vacuum that is in the way.
"""
_PAUSE_SECONDS: Final = 0.1


class PostgresSwap:
    """One transaction in which no writer of the view is at work."""

    def __init__(self, connection: asyncpg.Connection, view: View, live: Mapping[str, Checkpoint]) -> None:
        """Work on a connection whose transaction holds the view's writer lock."""
        self._connection = connection
        self._view = view
        self._live = live

    @property
    def live(self) -> Mapping[str, Checkpoint]:
        """Where the live view stands."""
        return self._live

    async def digests(self) -> tuple[str, str]:
        """Return the hashes of the live and of the rebuilt tables."""
        stands = await tables_stand(self._connection, self._view)
        return (
            await digest_of(self._connection, LIVE, self._view) if stands else "",
            await digest_of(self._connection, BUILDING, self._view),
        )

    async def differences(self, limit: int) -> Sequence[Difference]:
        """Return the first rows that differ."""
        return await differences_of(self._connection, self._view, limit)

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Drop the live tables and let the rebuilt ones take their names and their place."""
        connection, view = self._connection, self._view
        if await tables_stand(connection, view):
            await exclude_readers(connection, [qualified(LIVE, view, table) for table in view.tables])
        for table in view.tables:
            await connection.execute(f"DROP TABLE IF EXISTS {qualified(LIVE, view, table)}")
            await connection.execute(f"ALTER TABLE {qualified(BUILDING, view, table)} SET SCHEMA {LIVE}")
        await forget(connection, view.follower)
        points = checkpoint_table()
        await connection.executemany(
            f"INSERT INTO {points} VALUES ($1, $2, $3, $4)",  # noqa: S608 - a name of ours
            [(view.follower, channel, at.position, at.record_hash) for channel, at in reached.items()],
        )
        await connection.execute(
            f"UPDATE {parked_table()} SET follower = $1 WHERE follower = $2",  # noqa: S608 - a name of ours
            view.follower,
            building_follower(view),
        )


class PostgresBuilding:
    """Tables under way in the schema `views_building`; the first rows of each go in by COPY."""

    def __init__(self, connection: asyncpg.Connection, view: View) -> None:
        """Fill tables that were just made, on a connection of their own."""
        self._connection = connection
        self._view = view
        self._empty: set[Table] = set(view.tables)

    async def live(self) -> Mapping[str, Checkpoint]:
        """Return where the live view stands now."""
        with translated():
            return await read_checkpoints(self._connection, self._view.follower)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[PostgresWriter]:
        """Write to the new tables in one transaction."""
        with translated():
            async with self._connection.transaction():
                yield PostgresWriter(self._connection, BUILDING, self._view, self._empty)

    async def finish(self) -> None:
        """Make the indexes and tell the planner what is in the tables."""
        with translated():
            await create_indexes(self._connection, BUILDING, self._view, LONG_SECONDS)
            for table in self._view.tables:
                name = qualified(BUILDING, self._view, table)
                await self._connection.execute(f"ANALYZE {name}", timeout=LONG_SECONDS)

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator[PostgresSwap]:
        """Take the view's writer lock for one transaction."""
        connection, view = self._connection, self._view
        with translated():
            async with connection.transaction():
                await take_turn(connection, view)
                yield PostgresSwap(connection, view, await read_checkpoints(connection, view.follower))


async def take_turn(connection: asyncpg.Connection, view: View) -> None:
    """Become the view's one writer until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("view", view.follower))


async def exclude_readers(connection: asyncpg.Connection, names: Iterable[str]) -> None:
    """Take tables for this transaction alone, a little patience at a time. Raises StoreUnavailable in the end."""
    tables = ", ".join(names)
    for patience in PATIENCE_MS:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {patience}")
                await connection.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            await connection.execute("SET LOCAL lock_timeout = DEFAULT")
            return
    raise StoreUnavailable(f"readers hold {tables} for too long (a dump under way?); nothing was changed")


async def forget(connection: asyncpg.Connection, follower: str) -> None:
    """Delete a follower's checkpoints and parked facts."""
    for table in (checkpoint_table(), parked_table()):
        await connection.execute(f"DELETE FROM {table} WHERE follower = $1", follower)  # noqa: S608 - a name of ours

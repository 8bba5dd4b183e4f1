"""Views on PostgreSQL: rows in bulk, and the checkpoint they reflect in the same transaction.

All views live in the schema `views`, tables named after view, version and table; a rebuild fills tables of the same
names in `views_building`, which then change schema. Readers lock the tables they read (ACCESS SHARE) before their
snapshot is taken: otherwise a reader whose snapshot is older than a swap would look into the new table with the old
eyes and find it empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from events.store import Checkpoint, StoreUnavailable
from infra.postgres.pool import translated
from infra.postgres.schema import lock_key, making
from infra.postgres.view_rows import PostgresWriter, digest_of, read_checkpoints, select_rows
from infra.postgres.view_tables import (
    BUILDING,
    LIVE,
    checkpoint_table,
    create_indexes,
    create_tables,
    qualified,
    tables_stand,
)
from projections.store import RebuildRunning, Select
from projections.view import Table, View

_LONG_SECONDS: Final = 3_600
"""For statements that walk whole tables."""


class PostgresSnapshot:
    """One read-only repeatable-read transaction."""

    def __init__(self, connection: asyncpg.Connection, views: Sequence[View]) -> None:
        """Read through a connection whose transaction holds the locks of `views`."""
        self._connection = connection
        self._view_of = {table: view for view in views for table in view.tables}

    async def checkpoints(self, view: View) -> Mapping[str, Checkpoint]:
        """Return the positions the view's rows reflect."""
        return await read_checkpoints(self._connection, view.follower)

    async def select(self, select: Select) -> Sequence[Any]:
        """Return rows of a view this snapshot was opened for."""
        return await select_rows(self._connection, qualified(LIVE, self._view_of[select.table], select.table), select)

    async def digest(self, view: View) -> str:
        """Return the hash over the text of all rows in the order of their keys."""
        return await digest_of(self._connection, LIVE, view)


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
        return (
            await digest_of(self._connection, LIVE, self._view),
            await digest_of(self._connection, BUILDING, self._view),
        )

    async def replace(self, reached: Mapping[str, Checkpoint]) -> None:
        """Drop the live tables and let the rebuilt ones take their names and their place."""
        for table in self._view.tables:
            await self._connection.execute(f"DROP TABLE {qualified(LIVE, self._view, table)}")
            await self._connection.execute(f"ALTER TABLE {qualified(BUILDING, self._view, table)} SET SCHEMA {LIVE}")
        points = checkpoint_table()
        await self._connection.execute(f"DELETE FROM {points} WHERE follower = $1", self._view.follower)  # noqa: S608 - a name of ours
        await self._connection.executemany(
            f"INSERT INTO {points} VALUES ($1, $2, $3, $4)",  # noqa: S608 - a name of ours
            [(self._view.follower, channel, at.position, at.record_hash) for channel, at in reached.items()],
        )


class PostgresBuilding:
    """Tables under way in the schema `views_building`; the first rows of each go in by COPY."""

    def __init__(self, pool: asyncpg.Pool, view: View) -> None:
        """Fill tables that were just made."""
        self._pool = pool
        self._view = view
        self._empty: set[Table] = set(view.tables)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[PostgresWriter]:
        """Write to the new tables in one transaction."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                yield PostgresWriter(connection, BUILDING, self._view, self._empty)

    async def finish(self) -> None:
        """Make the indexes and tell the planner what is in the tables."""
        with translated():
            async with self._pool.acquire() as connection:
                await create_indexes(connection, BUILDING, self._view, _LONG_SECONDS)
                for table in self._view.tables:
                    await connection.execute(f"ANALYZE {qualified(BUILDING, self._view, table)}", timeout=_LONG_SECONDS)

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator[PostgresSwap]:
        """Take the view's writer lock for one transaction."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await _take_turn(connection, self._view)
                yield PostgresSwap(connection, self._view, await read_checkpoints(connection, self._view.follower))


class PostgresViews:
    """Keeps views in a database; writes through `pool`, answers queries through `readers`."""

    def __init__(self, pool: asyncpg.Pool, readers: asyncpg.Pool | None = None) -> None:
        """Use pools of the caller."""
        self._pool = pool
        self._readers = readers if readers is not None else pool

    async def prepare(self, view: View) -> None:
        """Make schema and tables where they are missing; safe when several processes start at once.

        Raises StoreError when a table has other columns than this software's: then the view's version must change.
        """
        with translated():
            async with self._pool.acquire() as connection:
                if await tables_stand(connection, view):
                    return
                async with making(connection, LIVE):
                    await create_tables(connection, LIVE, view)
                    await create_indexes(connection, LIVE, view, _LONG_SECONDS)

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel; none when no view was ever prepared."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            async with self._readers.acquire() as connection:
                return await read_checkpoints(connection, follower)
        return {}

    @asynccontextmanager
    async def writing(self, view: View) -> AsyncIterator[PostgresWriter]:
        """Write to the live tables in one transaction, alone."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await _take_turn(connection, view)
                yield PostgresWriter(connection, LIVE, view)

    @asynccontextmanager
    async def reading(self, *views: View) -> AsyncIterator[PostgresSnapshot]:
        """Read one moment of `views`. Raises StoreUnavailable when one of them was never prepared."""
        tables = ", ".join(qualified(LIVE, view, table) for view in views for table in view.tables)
        with translated():
            async with (
                self._readers.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                try:
                    await connection.execute(f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
                except asyncpg.UndefinedTableError as error:
                    raise StoreUnavailable(f"a view is not built yet: {error}") from error
                yield PostgresSnapshot(connection, views)

    @asynccontextmanager
    async def rebuilding(self, view: View) -> AsyncIterator[PostgresBuilding]:
        """Make empty tables beside the live ones, guarded by a lock that lasts as long as this process."""
        key = lock_key("rebuild", view.follower)
        with translated():
            async with self._pool.acquire() as guard:
                if not await guard.fetchval("SELECT pg_try_advisory_lock($1)", key):
                    raise RebuildRunning(f"{view.name} is being rebuilt by another process")
                try:
                    await _drop_building(guard, view)
                    await create_tables(guard, BUILDING, view)
                    yield PostgresBuilding(self._pool, view)
                finally:
                    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        await _drop_building(guard, view)
                        await guard.execute("SELECT pg_advisory_unlock($1)", key)


async def _take_turn(connection: asyncpg.Connection, view: View) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("view", view.follower))


async def _drop_building(connection: asyncpg.Connection, view: View) -> None:
    for table in view.tables:
        await connection.execute(f"DROP TABLE IF EXISTS {qualified(BUILDING, view, table)}")

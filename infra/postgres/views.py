"""Views on PostgreSQL: rows in bulk, and the checkpoint they reflect in the same transaction.

Readers lock the tables they read (ACCESS SHARE) before their snapshot is taken: otherwise a reader whose snapshot is
older than a swap would look into the new table with the old eyes and find it empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from events.parked import Parked
from events.store import Checkpoint
from infra.postgres.pool import translated
from infra.postgres.schema import lock_key, making
from infra.postgres.view_building import LONG_SECONDS, PostgresBuilding, exclude_readers, forget, take_turn
from infra.postgres.view_parked import count_parked, read_alarms
from infra.postgres.view_rows import PostgresWriter, digest_of, read_checkpoints, select_rows
from infra.postgres.view_tables import (
    BUILDING,
    LIVE,
    building_follower,
    create_indexes,
    create_tables,
    lay_ground,
    lower_versions,
    qualified,
    tables_stand,
)
from projections.store import RebuildRunning, Select, ViewNotBuilt
from projections.view import View


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


class PostgresViews:
    """Keeps views in a database; writes through `pool`, answers queries through `readers`."""

    def __init__(self, pool: asyncpg.Pool, readers: asyncpg.Pool | None = None) -> None:
        """Use pools of the caller. Rebuilds hold at most half of the connections of `pool`, or its only one."""
        self._pool = pool
        self._readers = readers if readers is not None else pool
        self._rebuilds = asyncio.Semaphore(max(pool.get_max_size() // 2, 1))

    async def stands(self, view: View) -> bool:
        """Tell whether the view has live tables.

        Raises StoreError when a table has other columns than this software's: then the view's version must change.
        """
        with translated():
            async with self._pool.acquire() as connection:
                await lay_ground(connection)
                return await tables_stand(connection, view)

    async def prepare(self, view: View) -> None:
        """Make tables where they are missing; safe when several processes start at once. Raises like `stands`."""
        if await self.stands(view):
            return
        with translated():
            async with self._pool.acquire() as connection, making(connection, LIVE):
                await create_tables(connection, LIVE, view)
                await create_indexes(connection, LIVE, view, LONG_SECONDS)

    async def drop_older(self, view: View) -> Sequence[int]:
        """Drop what belongs to lower versions of the view."""
        with translated():
            async with self._pool.acquire() as connection:
                dropped = []
                for version, names in (await lower_versions(connection, view)).items():
                    older = replace(view, version=version)
                    async with connection.transaction():
                        key = lock_key("rebuild", older.follower)
                        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", key):
                            continue  # older software is building it this moment; the next start looks again
                        await exclude_readers(connection, names)
                        await connection.execute(f"DROP TABLE {', '.join(names)}")
                        await forget(connection, older.follower)
                        await forget(connection, building_follower(older))
                    dropped.append(version)
        return dropped

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel; none when no view was ever prepared."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            async with self._readers.acquire() as connection:
                return await read_checkpoints(connection, follower)
        return {}

    async def alarms(self) -> Sequence[Parked]:
        """Return the first parked fact of every stream of every live view; none when no view was ever prepared."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            async with self._readers.acquire() as connection:
                return await read_alarms(connection)
        return []

    async def parked_counts(self) -> Mapping[str, int]:
        """Return how many facts live views have parked; none when no view was ever prepared."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            async with self._readers.acquire() as connection:
                return await count_parked(connection)
        return {}

    @asynccontextmanager
    async def writing(self, view: View) -> AsyncIterator[PostgresWriter]:
        """Write to the live tables in one transaction, alone."""
        with translated(), _not_built(view):
            async with self._pool.acquire() as connection, connection.transaction():
                await take_turn(connection, view)
                yield PostgresWriter(connection, LIVE, view)

    @asynccontextmanager
    async def reading(self, *views: View) -> AsyncIterator[PostgresSnapshot]:
        """Read one moment of `views`. Raises ViewNotBuilt when one of them has no tables."""
        tables = ", ".join(qualified(LIVE, view, table) for view in views for table in view.tables)
        with translated():
            async with (
                self._readers.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                with _not_built(*views):
                    await connection.execute(f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
                yield PostgresSnapshot(connection, views)

    @asynccontextmanager
    async def rebuilding(self, view: View) -> AsyncIterator[PostgresBuilding]:
        """Make empty tables beside the live ones, guarded by a lock that lasts as long as the connection."""
        key = lock_key("rebuild", view.follower)
        with translated():
            async with self._rebuilds, self._pool.acquire() as connection:
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):
                    raise RebuildRunning(f"{view.name} is being rebuilt already")
                try:
                    await lay_ground(connection)
                    await _drop_building(connection, view)
                    await create_tables(connection, BUILDING, view)
                    yield PostgresBuilding(connection, view)
                finally:
                    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        await _drop_building(connection, view)
                        await connection.execute("SELECT pg_advisory_unlock($1)", key)


@contextmanager
def _not_built(*views: View) -> Iterator[None]:
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        names = ", ".join(f"{view.name} (version {view.version})" for view in views)
        raise ViewNotBuilt(f"not built yet: {names}") from error


async def _drop_building(connection: asyncpg.Connection, view: View) -> None:
    for table in view.tables:
        await connection.execute(f"DROP TABLE IF EXISTS {qualified(BUILDING, view, table)}")
    await forget(connection, building_follower(view))

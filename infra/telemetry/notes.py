"""Which span facts were recorded in, in memory and in PostgreSQL; the port is `events.telemetry.TraceNotes`.

In PostgreSQL it is one unlogged table beside everything: it is written on a connection of its own just before the
facts are committed, so it costs no second wait for the disk, and losing it loses nothing but spans.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreError
from events.telemetry import TraceNote
from infra.postgres.pool import StoreConnection, translated
from infra.postgres.schema import making

MOST_NOTES: Final = 100_000
"""Notes kept per service: a follower further behind than that begins traces of its own."""

PRUNE_EVERY: Final = 1_000
"""Notes between two looks at what is too old."""

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS telemetry;
CREATE UNLOGGED TABLE IF NOT EXISTS telemetry.traces (
    service text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    traceparent text NOT NULL,
    PRIMARY KEY (service, first)
);
"""
_DROP: Final = "DELETE FROM telemetry.traces WHERE service = $1 AND first > $2"
_NOTE: Final = """
INSERT INTO telemetry.traces (service, first, last, traceparent)
SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[])
"""
_NOTED: Final = """
SELECT first, last, traceparent FROM telemetry.traces WHERE service = $1 AND first <= $3 AND first >= coalesce(
    (SELECT max(first) FROM telemetry.traces WHERE service = $1 AND first <= $2 + 1), 0) ORDER BY first
"""
_PRUNE: Final = """
DELETE FROM telemetry.traces WHERE service = $1 AND first < (
    SELECT first FROM telemetry.traces WHERE service = $1 ORDER BY first DESC OFFSET $2 LIMIT 1)
"""

_LOG: Final = logging.getLogger(__name__)


class MemoryTraceNotes:
    """Notes of one process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._notes: dict[str, list[TraceNote]] = {}

    async def note(self, service: str, after: int, notes: Sequence[TraceNote]) -> None:
        """Keep notes in the place of those beyond `after`."""
        kept = self._notes.setdefault(service, [])
        del kept[bisect_right(kept, after, key=lambda each: each.first) :]
        kept.extend(notes)
        del kept[:-MOST_NOTES]

    async def noted(self, service: str, after: int, upto: int) -> Mapping[int, str]:
        """Return the traceparents by position."""
        kept = self._notes.get(service, [])
        start = max(bisect_right(kept, after + 1, key=lambda each: each.first) - 1, 0)
        stop = bisect_right(kept, upto, key=lambda each: each.first)
        return by_position(kept[start:stop], after, upto)


class PostgresTraceNotes:
    """Notes shared by all processes on one database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Use the caller's pool (see `open_notes`); the table must stand."""
        self._pool = pool
        self._fresh: dict[str, int] = {}

    async def note(self, service: str, after: int, notes: Sequence[TraceNote]) -> None:
        """Keep notes in the place of those beyond `after`; what fails is not tried again."""
        columns = [note.first for note in notes], [note.last for note in notes], [note.traceparent for note in notes]
        self._fresh[service] = self._fresh.get(service, 0) + len(notes)
        try:
            with translated():
                async with self._pool.acquire() as connection:
                    await connection.execute(_DROP, service, after)
                    if notes:
                        await connection.execute(_NOTE, service, *columns)
                    if self._fresh[service] >= PRUNE_EVERY:
                        self._fresh[service] = 0
                        await connection.execute(_PRUNE, service, MOST_NOTES - 1)
        except (StoreError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _LOG.info("traces of %s are not noted: %s", service, error)

    async def noted(self, service: str, after: int, upto: int) -> Mapping[int, str]:
        """Return the traceparents by position; none while the database does not answer."""
        try:
            with translated():
                rows = await self._pool.fetch(_NOTED, service, after, upto)
        except (StoreError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _LOG.info("traces of %s are not known: %s", service, error)
            return {}
        return by_position([TraceNote(*row) for row in rows], after, upto)


def by_position(notes: Sequence[TraceNote], after: int, upto: int) -> Mapping[int, str]:
    """Return what notes say about each position after `after` up to `upto`."""
    return {
        position: note.traceparent
        for note in notes
        for position in range(max(note.first, after + 1), min(note.last, upto) + 1)
    }


@asynccontextmanager
async def open_notes(dsn: str) -> AsyncIterator[PostgresTraceNotes]:
    """Open the table on its own small pool, making it where it is missing. Raises StoreUnavailable."""
    settings = {"application_name": "commons traces", "synchronous_commit": "off", "lock_timeout": "2s"}
    with translated():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=4,
            timeout=10,
            command_timeout=2,
            server_settings=settings,
            connection_class=StoreConnection,
        )
    try:
        with translated():
            async with pool.acquire() as connection, making(connection, "telemetry"):
                await connection.execute(_DDL)
        yield PostgresTraceNotes(pool)
    finally:
        await pool.close()

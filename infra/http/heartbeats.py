"""Heartbeats in memory and in PostgreSQL; the port is `services.metering.heartbeats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from infra.postgres.pool import translated
from infra.postgres.schema import making

MINUTE_MS: Final = 60_000
MINUTES: Final = 60
KEEP_MINUTES: Final = 4 * MINUTES
"""An hour can be recorded for one hour after its end; the rest is room for clocks that differ."""

PRUNE_EVERY_MS: Final = 60_000

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS edge;
CREATE TABLE IF NOT EXISTS edge.heartbeats (
    node text NOT NULL,
    minute bigint NOT NULL,
    spool_sha256 text NOT NULL,
    PRIMARY KEY (node, minute)
);
CREATE INDEX IF NOT EXISTS heartbeats_minute_idx ON edge.heartbeats (minute);
"""
_NOTE: Final = "INSERT INTO edge.heartbeats (node, minute, spool_sha256) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_STANDS: Final = "SELECT spool_sha256 FROM edge.heartbeats WHERE node = $1 AND minute = $2"
_MINUTES: Final = "SELECT minute FROM edge.heartbeats WHERE node = $1 AND minute >= $2 AND minute < $3"
_PRUNE: Final = "DELETE FROM edge.heartbeats WHERE minute < $1"


class MemoryHeartbeats:
    """Heartbeats of one process, gone when it ends."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Take the wall clock (milliseconds UTC)."""
        self._now_ms = now_ms
        self._kept: dict[tuple[str, int], str] = {}

    async def note(self, node: str, minute: int, spool_sha256: str) -> str:
        """Keep a node's first heartbeat of a minute; return the hash that stands."""
        first = self._now_ms() // MINUTE_MS - KEEP_MINUTES
        self._kept = {name: stands for name, stands in self._kept.items() if name[1] >= first}
        return self._kept.setdefault((node, minute), spool_sha256)

    async def minutes(self, node: str, hour: int) -> int:
        """Return the map of an hour."""
        return sum(1 << bit for bit in range(MINUTES) if (node, hour * MINUTES + bit) in self._kept)


class PostgresHeartbeats:
    """Heartbeats shared by all `http` processes; durable when `note` returns."""

    def __init__(self, pool: asyncpg.Pool, now_ms: Callable[[], int]) -> None:
        """Use the caller's pool (see `open_heartbeats`); the table must stand."""
        self._pool = pool
        self._now_ms = now_ms
        self._pruned_ms = 0

    async def note(self, node: str, minute: int, spool_sha256: str) -> str:
        """Keep a node's first heartbeat of a minute; return the hash that stands. Raises StoreUnavailable."""
        now = self._now_ms()
        with translated():
            async with self._pool.acquire() as connection:
                if now - self._pruned_ms >= PRUNE_EVERY_MS:
                    self._pruned_ms = now
                    await connection.execute(_PRUNE, now // MINUTE_MS - KEEP_MINUTES)
                await connection.execute(_NOTE, node, minute, spool_sha256)
                return str(await connection.fetchval(_STANDS, node, minute))

    async def minutes(self, node: str, hour: int) -> int:
        """Return the map of an hour. Raises StoreUnavailable."""
        first = hour * MINUTES
        with translated():
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(_MINUTES, node, first, first + MINUTES)
        return sum(1 << (row["minute"] - first) for row in rows)

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()


async def open_heartbeats(dsn: str, now_ms: Callable[[], int]) -> PostgresHeartbeats:
    """Open the table on its own small pool, making it where it is missing. Raises StoreUnavailable."""
    settings = {"application_name": "commons heartbeats", "lock_timeout": "30s"}
    with translated():
        pool = await asyncpg.create_pool(
            dsn, min_size=1, max_size=2, timeout=10, command_timeout=30, server_settings=settings
        )
        async with pool.acquire() as connection, making(connection, "edge"):
            await connection.execute(_DDL)
    return PostgresHeartbeats(pool, now_ms)

"""Nonces in memory and in PostgreSQL; the port is `services.kernel.nonces`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreUnavailable
from infra.postgres.pool import translated
from infra.postgres.schema import making

PRUNE_EVERY_MS: Final = 10_000
KEEP_MS: Final = 60_000
"""How long a nonce outlives its request, so that clocks of several processes may differ."""

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS edge;
CREATE TABLE IF NOT EXISTS edge.nonces (
    kid text NOT NULL,
    nonce text NOT NULL,
    expires_ms bigint NOT NULL,
    PRIMARY KEY (kid, nonce)
);
CREATE INDEX IF NOT EXISTS nonces_expires_idx ON edge.nonces (expires_ms);
"""
_TAKE: Final = """
INSERT INTO edge.nonces (kid, nonce, expires_ms)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT DO NOTHING RETURNING kid, nonce
"""
_PRUNE: Final = "DELETE FROM edge.nonces WHERE expires_ms < $1"
_MOST: Final = 1_000

_Name = tuple[str, str]


class MemoryNonces:
    """Nonces of one process, gone when it ends."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """Take the wall clock (milliseconds UTC)."""
        self._now_ms = now_ms
        self._taken: dict[_Name, int] = {}
        self._pruned_ms = 0

    async def take(self, kid: str, nonce: str, expires_ms: int) -> bool:
        """Return True for the first to bring (kid, nonce)."""
        now = self._now_ms()
        if now - self._pruned_ms >= PRUNE_EVERY_MS:
            self._pruned_ms = now
            self._taken = {name: until for name, until in self._taken.items() if until >= now - KEEP_MS}
        if (kid, nonce) in self._taken:
            return False
        self._taken[kid, nonce] = expires_ms
        return True


class PostgresNonces:
    """Nonces shared by all `http` processes. One statement serves everyone who waits for the database.

    The pool should be its own, with `synchronous_commit` off: see the port for why the last second may be lost.
    """

    def __init__(self, pool: asyncpg.Pool, now_ms: Callable[[], int]) -> None:
        """Use the caller's pool (see `open_nonces`); the table must stand."""
        self._pool = pool
        self._now_ms = now_ms
        self._waiting: dict[_Name, tuple[int, asyncio.Future[bool]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._pruned_ms = now_ms()

    async def take(self, kid: str, nonce: str, expires_ms: int) -> bool:
        """Return True for the first to bring (kid, nonce). Raises StoreUnavailable."""
        if (kid, nonce) in self._waiting:
            return False
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[kid, nonce] = (expires_ms, done)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        return await done

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()

    async def _serve(self) -> None:
        while self._waiting:
            batch = dict(list(self._waiting.items())[:_MOST])
            try:
                taken = await self._insert(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear it
                _settle(batch, error)
                continue
            except asyncio.CancelledError:
                _settle(batch, StoreUnavailable("the server is stopping"))
                raise
            finally:
                for name in batch:
                    del self._waiting[name]
            for name, (_, done) in batch.items():
                if not done.done():
                    done.set_result(name in taken)

    async def _insert(self, batch: dict[_Name, tuple[int, asyncio.Future[bool]]]) -> set[_Name]:
        columns = [name[0] for name in batch], [name[1] for name in batch], [until for until, _ in batch.values()]
        now = self._now_ms()
        with translated():
            async with self._pool.acquire() as connection:
                if now - self._pruned_ms >= PRUNE_EVERY_MS:
                    self._pruned_ms = now
                    await connection.execute(_PRUNE, now - KEEP_MS)
                rows: list[Any] = await connection.fetch(_TAKE, *columns)
        return {(row["kid"], row["nonce"]) for row in rows}


def _settle(batch: dict[_Name, tuple[int, asyncio.Future[bool]]], error: Exception) -> None:
    for _, done in batch.values():
        if not done.done():
            done.set_exception(error)


async def open_nonces(dsn: str, now_ms: Callable[[], int]) -> PostgresNonces:
    """Open the nonce table on its own small pool, making it where it is missing. Raises StoreUnavailable."""
    settings = {"application_name": "commons nonces", "synchronous_commit": "off", "lock_timeout": "30s"}
    with translated():
        pool = await asyncpg.create_pool(
            dsn, min_size=1, max_size=2, timeout=10, command_timeout=30, server_settings=settings
        )
        async with pool.acquire() as connection, making(connection, "edge"):
            await connection.execute(_DDL)
    return PostgresNonces(pool, now_ms)

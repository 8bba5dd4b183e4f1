"""Roles of which only one may work at a time: an advisory lock of the database, held by a connection of its own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]

from infra.postgres.pool import translated


@asynccontextmanager
async def alone(dsn: str, role: str) -> AsyncIterator[asyncio.Event]:
    """Wait until no other process holds `role`, then hold it; the event yielded is set when it is lost.

    Raises StoreUnavailable when the database cannot be reached. Standbys simply wait here.
    """
    key = int.from_bytes(hashlib.sha256(f"commons.role/{role}".encode()).digest()[:8], "big", signed=True)
    with translated():
        connection = await asyncpg.connect(dsn, server_settings={"application_name": f"commons {role}"})
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    try:
        with translated():
            await connection.execute("SELECT pg_advisory_lock($1)", key)
        yield lost
    finally:
        connection.terminate()

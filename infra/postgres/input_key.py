"""Binds a database to the secret under which the inputs of its commands are remembered.

Instances that share a database share that secret too: with another one, a command asked again would look like another
command under a known id, and be refused instead of answered.
"""

from __future__ import annotations

import hmac
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreError
from infra.postgres.pool import translated
from infra.postgres.schema import making

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS edge;
CREATE TABLE IF NOT EXISTS edge.input_key (id integer PRIMARY KEY CHECK (id = 1), mark bytea NOT NULL);
"""


class OtherHome(StoreError):
    """The database was begun with the keys of another home."""


async def bind_input_key(pool: asyncpg.Pool, key: bytes) -> None:
    """Remember a mark of the key in a new database, compare it in one that has it.

    Raises OtherHome, and StoreUnavailable when the database cannot be reached.
    """
    mark = hmac.digest(key, b"commons.input-key", "sha256")
    with translated():
        async with pool.acquire() as connection:
            if not await connection.fetchval("SELECT to_regclass('edge.input_key')"):
                async with making(connection, "edge"):
                    await connection.execute(_DDL)
                    await connection.execute("INSERT INTO edge.input_key VALUES (1, $1) ON CONFLICT DO NOTHING", mark)
            found: bytes = await connection.fetchval("SELECT mark FROM edge.input_key")
    if not hmac.compare_digest(found, mark):
        raise OtherHome(
            "this database was begun with another inputs key: every instance on it needs the same keys/inputs.key "
            "under its COMMONS_HOME; copy it from the first one, or restore it from your backup"
        )

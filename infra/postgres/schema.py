"""The tables of one service: one PostgreSQL schema each, in the shape the eventsourcing library reads.

`events` and `tracking` are the tables of the library's process recorder (text ids, single-row tracking). Two
deviations guard them: `notification_id` has no default, so nothing but this store can append (the library would take
ids from a sequence, with holes), and the marker row in `tracking` keeps the library from migrating the table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreError
from infra.postgres.pool import translated

LAYOUT: Final = 1
"""Version of the tables below; written into the schema when it is made and compared at every start."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.events (
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea STORAGE EXTERNAL NOT NULL,
    notification_id bigint NOT NULL CHECK (notification_id > 0),
    time_us bigint NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
);
CREATE UNIQUE INDEX IF NOT EXISTS events_notification_id_idx ON {schema}.events (notification_id);
CREATE TABLE IF NOT EXISTS {schema}.outcomes (
    key bytea PRIMARY KEY,
    inputs bytea NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    answer bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.tracking (
    application_name text PRIMARY KEY,
    notification_id bigint NOT NULL,
    record_hash bytea NOT NULL DEFAULT '',
    follower text NOT NULL GENERATED ALWAYS AS (split_part(application_name, '@', 1)) STORED,
    channel text NOT NULL GENERATED ALWAYS AS
        (substr(application_name, length(split_part(application_name, '@', 1)) + 2)) STORED
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO {schema}.tracking VALUES ('__migration__', 1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS {schema}.snapshots (
    name text PRIMARY KEY,
    version bigint NOT NULL,
    position bigint NOT NULL,
    record_hash bytea NOT NULL,
    state bytea STORAGE EXTERNAL NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.layout (version integer PRIMARY KEY);
INSERT INTO {schema}.layout VALUES ({layout}) ON CONFLICT DO NOTHING;
"""


class LayoutRefused(StoreError):
    """The tables were made by other software than this; the message says which, and what to do."""

    @classmethod
    def newer(cls, service: str, found: int, known: int) -> Self:
        """Return the refusal of tables that newer software has made."""
        return cls(
            f"the tables of {service} have layout {found}, this program knows {known}: newer software wrote them, "
            "start that one (or restore a backup of before)"
        )

    @classmethod
    def older(cls, service: str, found: int, wanted: int) -> Self:
        """Return the refusal of tables that were not migrated yet."""
        return cls(
            f"the tables of {service} have layout {found}, this program needs {wanted}: take a backup (`commons backup "
            "FILE`), then run `commons migrate`"
        )


def schema_name(service: str) -> str:
    """Return the quoted schema of a service; the name is a fixed word of ours, never input."""
    assert _NAME.fullmatch(service), f"{service!r} cannot name a schema"
    return f'"{service}"'


def lock_key(purpose: str, service: str) -> int:
    """Return the 64-bit advisory lock key for one purpose of one service (locks are per database)."""
    return int.from_bytes(hashlib.sha256(f"commons/{purpose}/{service}".encode()).digest()[:8], "big", signed=True)


@asynccontextmanager
async def making(connection: asyncpg.Connection, what: str) -> AsyncIterator[None]:
    """Hold the lock under which tables are made, and then a transaction.

    In this order: a backend that has looked for a schema in vain remembers that until its next transaction begins,
    and would make it a second time.
    """
    key = lock_key("layout", what)
    await connection.execute("SELECT pg_advisory_lock($1)", key)
    try:
        async with connection.transaction():
            yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", key)


async def prepare_schema(connection: asyncpg.Connection, service: str) -> None:
    """Create the service's tables where they are missing; safe when several processes start at once.

    A role without the right to create may start on tables that stand already.
    Raises LayoutRefused when the tables have another layout, StoreUnavailable when the database is away.
    """
    schema = schema_name(service)
    with translated():
        if not await connection.fetchval("SELECT to_regclass($1)", f"{schema}.layout"):
            async with making(connection, service):
                await connection.execute(_DDL.format(schema=schema, layout=LAYOUT))
    await layout_of(connection, service)


async def layout_of(connection: asyncpg.Connection, service: str) -> int | None:
    """Return the layout of a service's tables, None where there are none. Raises LayoutRefused for another one."""
    schema = schema_name(service)
    with translated():
        if not await connection.fetchval("SELECT to_regclass($1)", f"{schema}.layout"):
            return None
        found = int(await connection.fetchval(f"SELECT max(version) FROM {schema}.layout"))  # noqa: S608 - a name of ours
    if found > LAYOUT:
        raise LayoutRefused.newer(service, found, LAYOUT)
    if found < LAYOUT:
        raise LayoutRefused.older(service, found, LAYOUT)
    return found

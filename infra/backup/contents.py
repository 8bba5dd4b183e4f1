"""What a database holds at one moment: heads of services, hashes of views, the schemas that are ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreError
from infra.backup.manifest import Head, ViewHash
from infra.postgres.pool import translated
from infra.postgres.programs import major_of
from infra.postgres.schema import schema_name
from infra.postgres.statements import statements_of
from infra.postgres.view_tables import LIVE, qualified, tables_stand
from infra.postgres.views import PostgresSnapshot
from projections.view import View

# The key store of sealed data is not among them: its backups end after 30 days (`commons keystore`), these need not.
# Nor is `telemetry`: which trace a fact was recorded in means nothing after a restore.
_SCHEMAS = """
SELECT nspname FROM pg_namespace
WHERE nspname !~ '^(pg_|information_schema$|public$|views_building$|telemetry$|keystore)'
AND nspname !~ '_replaced_[0-9]+$' AND pg_has_role(nspowner, 'USAGE') ORDER BY nspname
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a database; `snapshot` names it for pg_dump while the connection stays open."""

    postgres_major: int
    snapshot: str
    schemas: tuple[str, ...]
    layouts: Mapping[str, int]
    heads: Mapping[str, Head]
    views: Mapping[str, ViewHash]


@asynccontextmanager
async def moment(dsn: str, services: Iterable[str], views: Sequence[View]) -> AsyncIterator[Moment]:
    """Hold one moment of the database; writers go on meanwhile. Raises StoreUnavailable."""
    with translated():
        connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "commons backup"})
        try:
            standing = [view for view in views if await _stands(connection, view)]
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # The locks come before the moment is fixed: a rebuild may swap tables until then, and not after.
                for table in (qualified(LIVE, view, table) for view in standing for table in view.tables):
                    await connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
                yield await _look(connection, services, standing)
        finally:
            await connection.close()


async def schemas(connection: asyncpg.Connection) -> tuple[str, ...]:
    """Return the schemas of this database that are ours to back up."""
    return tuple(row[0] for row in await connection.fetch(_SCHEMAS))


async def _look(connection: asyncpg.Connection, services: Iterable[str], views: Sequence[View]) -> Moment:
    snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
    found = await schemas(connection)
    there = [service for service in services if service in found]
    reading = PostgresSnapshot(connection, views)
    return Moment(
        major_of(int(await connection.fetchval("SELECT current_setting('server_version_num')"))),
        snapshot,
        found,
        {service: await _layout(connection, service) for service in there},
        {service: await head_of(connection, service) for service in there},
        {view.name: await _view_hash(reading, view) for view in views},
    )


async def _layout(connection: asyncpg.Connection, service: str) -> int:
    return int(await connection.fetchval(f"SELECT max(version) FROM {schema_name(service)}.layout"))  # noqa: S608 - a name of ours


async def head_of(connection: asyncpg.Connection, service: str) -> Head:
    """Return where a service stands."""
    row = await connection.fetchrow(statements_of(service).head)
    if row is None:
        return Head(0, "", "")
    first = await connection.fetchval(
        f"SELECT sha256(state) FROM {schema_name(service)}.events WHERE notification_id = 1"  # noqa: S608 - a name of ours
    )
    return Head(row[0], row[2].hex(), (first or b"").hex())


async def _view_hash(reading: PostgresSnapshot, view: View) -> ViewHash:
    positions = {channel: point.position for channel, point in (await reading.checkpoints(view)).items()}
    return ViewHash(view.version, await reading.digest(view), positions)


async def _stands(connection: asyncpg.Connection, view: View) -> bool:
    try:
        return await tables_stand(connection, view)
    except StoreError:  # of another version of this software: kept in the dump, without a hash of ours
        return False

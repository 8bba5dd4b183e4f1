"""Moves a database from layout to layout by named steps, alone, and writes down which PostgreSQL it lives in.

Layouts are counted per schema of a service (`<service>.layout`) and once for the database (`instance.versions`). A
schema that is missing is made in its newest layout at any start; one that stands in an older layout is changed only by
`commons migrate`, so that nobody finds his data changed who did not ask for it. A newer layout is never touched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from infra.postgres.pool import translated
from infra.postgres.programs import major_of
from infra.postgres.schema import LAYOUT, LayoutRefused, layout_of, lock_key, making, prepare_schema, schema_name

POSTGRES: Final = "postgres"
"""The row of `instance.versions` that holds PostgreSQL's major version."""

_NAME: Final = "commons migrate"

_INSTANCE: Final = """
CREATE SCHEMA IF NOT EXISTS instance;
CREATE TABLE IF NOT EXISTS instance.versions (part text PRIMARY KEY, version integer NOT NULL);
CREATE TABLE IF NOT EXISTS instance.steps (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part text NOT NULL,
    name text NOT NULL,
    done timestamptz NOT NULL DEFAULT now()
);
"""


@dataclass(frozen=True, slots=True)
class Step:
    """Brings a service's schema from layout `before` to the next one; `{schema}` stands for its name."""

    before: int
    name: str
    sql: str


STEPS: Final[tuple[Step, ...]] = ()
"""Every change of a service's tables since layout 1. There was none yet."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done: on which part, and its name."""

    part: str
    name: str


async def check_postgres(dsn: str) -> int:
    """Return the server's major version, written down at the first start. Raises LayoutRefused when it is another."""
    async with _connection(dsn) as connection:
        major = major_of(connection.get_server_version().major * 10_000)
        if not await connection.fetchval("SELECT to_regclass('instance.versions')"):
            await _make_instance(connection, major)
        written = await connection.fetchval("SELECT version FROM instance.versions WHERE part = $1", POSTGRES)
    if written != major:
        raise LayoutRefused(_other_major(written, major))
    return major


async def check_layouts(dsn: str, services: Iterable[str]) -> Mapping[str, int]:
    """Return the layout of every service that has tables. Raises LayoutRefused when one is not this software's."""
    async with _connection(dsn) as connection:
        found = {service: await layout_of(connection, service) for service in services}
    return {service: layout for service, layout in found.items() if layout is not None}


async def migrate(
    dsn: str, services: Iterable[str], steps: Sequence[Step] = STEPS, newest: int = LAYOUT
) -> Sequence[Done]:
    """Bring every schema to the layout `newest`, each in one transaction, and write down PostgreSQL's version.

    Nobody else may be connected; another migration is waited for. Raises LayoutRefused, StoreUnavailable, StoreFull.
    """
    assert [step.before for step in steps] == list(range(1, newest)), "one step for each layout since the first"
    async with _connection(dsn) as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", lock_key("migrate", "instance"))
        await refuse_company(connection)
        major = major_of(connection.get_server_version().major * 10_000)
        done = await _write_down(connection, major)
        for service in services:
            done += await _migrate_service(connection, service, steps, newest)
    return done


async def refuse_company(connection: asyncpg.Connection) -> None:
    """Raise LayoutRefused while another process of ours is connected to this database."""
    others = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND application_name LIKE 'commons%' AND application_name <> $1",
        _NAME,
    )
    if others:
        raise LayoutRefused(f"{others} connections of a running instance are open: stop it first, on every machine")


async def _make_instance(connection: asyncpg.Connection, major: int) -> None:
    async with making(connection, "instance"):
        await connection.execute(_INSTANCE)
        await connection.execute(
            "INSERT INTO instance.versions VALUES ($1, $2) ON CONFLICT DO NOTHING", POSTGRES, major
        )


async def _write_down(connection: asyncpg.Connection, major: int) -> list[Done]:
    """Write the major down where it stands nowhere; accept a newer one the data was moved to, and no older one."""
    if not await connection.fetchval("SELECT to_regclass('instance.versions')"):
        await _make_instance(connection, major)
        first = Done("instance", f"write-down-postgres-{major}")
        await _note(connection, first)
        return [first]
    written = await connection.fetchval("SELECT version FROM instance.versions WHERE part = $1", POSTGRES)
    if written == major:
        return []
    if written > major:
        raise LayoutRefused(_other_major(written, major))
    done = Done("instance", f"postgres-{written}-to-{major}")
    async with connection.transaction():
        await connection.execute("UPDATE instance.versions SET version = $2 WHERE part = $1", POSTGRES, major)
        await _note(connection, done)
    return [done]


async def _migrate_service(
    connection: asyncpg.Connection, service: str, steps: Sequence[Step], newest: int
) -> list[Done]:
    schema = schema_name(service)
    if not await connection.fetchval("SELECT to_regclass($1)", f"{schema}.layout"):
        await prepare_schema(connection, service)
        return [Done(service, "create")]
    done: list[Done] = []
    async with connection.transaction():
        for purpose in ("layout", "writer"):
            await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key(purpose, service))
        found = await connection.fetchval(f"SELECT max(version) FROM {schema}.layout")  # noqa: S608 - a name of ours
        if found > newest:
            raise LayoutRefused.newer(service, found, newest)
        for step in steps[found - 1 :]:
            await connection.execute(step.sql.format(schema=schema))
            await connection.execute(f"INSERT INTO {schema}.layout VALUES ($1)", step.before + 1)  # noqa: S608 - a name of ours
            done.append(Done(service, step.name))
            await _note(connection, done[-1])
    return done


async def _note(connection: asyncpg.Connection, done: Done) -> None:
    await connection.execute("INSERT INTO instance.steps (part, name) VALUES ($1, $2)", done.part, done.name)


def _other_major(written: int, major: int) -> str:
    if written < major:
        return (
            f"this database was written by PostgreSQL {written}, the server is {major}: once you have moved it on "
            "purpose (pg_upgrade, or a dump), run `commons migrate` to write that down"
        )
    return (
        f"this database was written by PostgreSQL {written}, the server is {major}: use a server of version {written} "
        "(COMMONS_DATABASE), or the software that brings it"
    )


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    with translated():
        connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": _NAME})
        try:
            yield connection
        finally:
            await connection.close()

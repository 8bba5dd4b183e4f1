"""Moving a database from layout to layout: older is migrated by named steps, newer is never touched."""

from __future__ import annotations

import asyncio

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest

from infra.postgres import schema
from infra.postgres.migration import Done, Step, check_layouts, check_postgres, migrate
from infra.postgres.schema import LayoutRefused
from infra.postgres.store import PostgresStore

SERVICES = ("registry", "metering")
STEPS = (Step(1, "count-the-outcomes", "ALTER TABLE {schema}.outcomes ADD COLUMN seen bigint NOT NULL DEFAULT 0"),)


def execute(database: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


async def made(database: str) -> None:
    for service in SERVICES:
        await (await PostgresStore.open(database, service)).close()


async def test_an_empty_database_gets_its_tables_and_a_second_run_has_nothing_to_do(database: str) -> None:
    first = await migrate(database, SERVICES)
    assert [step.part for step in first] == ["instance", "registry", "metering"]
    assert first[0].name == f"write-down-postgres-{await check_postgres(database)}"
    assert {step.name for step in first[1:]} == {"create"}
    assert await migrate(database, SERVICES) == []
    assert await check_layouts(database, SERVICES) == {"registry": schema.LAYOUT, "metering": schema.LAYOUT}


async def test_an_older_layout_is_refused_at_a_start_and_migrated_by_its_steps(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(database)
    await check_postgres(database)
    monkeypatch.setattr(schema, "LAYOUT", 2)
    with pytest.raises(LayoutRefused, match="commons migrate"):
        await PostgresStore.open(database, "registry")
    done = await migrate(database, SERVICES, STEPS, newest=2)
    assert done == [Done("registry", "count-the-outcomes"), Done("metering", "count-the-outcomes")]
    assert execute(database, "SELECT seen FROM registry.outcomes") == []
    assert execute(database, "SELECT part, name FROM instance.steps ORDER BY number") == [
        ("registry", "count-the-outcomes"),
        ("metering", "count-the-outcomes"),
    ]
    await (await PostgresStore.open(database, "registry")).close()


async def test_a_step_that_fails_leaves_its_service_as_it_was(database: str) -> None:
    await made(database)
    broken = (Step(1, "half", "ALTER TABLE {schema}.outcomes ADD COLUMN half bigint; SELECT 1 / 0"),)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database, SERVICES, broken, newest=2)
    assert execute(database, "SELECT max(version) FROM registry.layout") == [(1,)]
    columns = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'half'"
    assert execute(database, columns) == [(0,)]


async def test_a_newer_layout_is_refused_by_a_start_and_by_a_migration(database: str) -> None:
    await made(database)
    execute(database, "INSERT INTO metering.layout VALUES (7)")
    with pytest.raises(LayoutRefused, match="newer software"):
        await PostgresStore.open(database, "metering")
    with pytest.raises(LayoutRefused, match="newer software"):
        await migrate(database, SERVICES)
    with pytest.raises(LayoutRefused, match="newer software"):
        await check_layouts(database, SERVICES)


async def test_the_major_version_is_written_down_and_another_one_is_refused(database: str) -> None:
    major = await check_postgres(database)
    assert execute(database, "SELECT version FROM instance.versions WHERE part = 'postgres'") == [(major,)]
    execute(database, f"UPDATE instance.versions SET version = {major - 1}")
    with pytest.raises(LayoutRefused, match="commons migrate"):
        await check_postgres(database)
    assert await migrate(database, ()) == [Done("instance", f"postgres-{major - 1}-to-{major}")]
    assert await check_postgres(database) == major
    execute(database, f"UPDATE instance.versions SET version = {major + 1}")
    for refused in (check_postgres(database), migrate(database, ())):
        with pytest.raises(LayoutRefused, match=f"written by PostgreSQL {major + 1}"):
            await refused


async def test_a_running_instance_is_in_the_way_of_a_migration(database: str) -> None:
    store = await PostgresStore.open(database, "registry")
    try:
        with pytest.raises(LayoutRefused, match="stop it first"):
            await migrate(database, SERVICES)
    finally:
        await store.close()


async def test_two_migrations_at_once_do_the_work_once(database: str) -> None:
    await made(database)
    await check_postgres(database)
    done = await asyncio.gather(*(migrate(database, SERVICES, STEPS, newest=2) for _ in range(3)))
    assert sorted(len(each) for each in done) == [0, 0, 2]

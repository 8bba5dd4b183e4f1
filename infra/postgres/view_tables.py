"""The tables of views, as SQL.

All views live in the schema `views`, in tables named after view, version and table; a rebuild fills tables of the
same names in `views_building`, which then change schema.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
import msgspec

from events.store import StoreError
from infra.postgres.schema import making
from projections.view import Table, View

LIVE: Final = "views"
BUILDING: Final = "views_building"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,29}")

# "C": the order of text is the order of its bytes, on every machine, so that hashes of ordered rows agree.
_TYPES: Final[dict[Any, str]] = {str: 'text COLLATE "C"', int: "bigint", bool: "boolean", bytes: "bytea"}
_ARRAYS: Final[dict[Any, str]] = {str: "text[]", int: "bigint[]", bool: "boolean[]", bytes: "bytea[]"}

_CHECKPOINTS: Final = """
CREATE TABLE IF NOT EXISTS {schema}.checkpoints (
    follower text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    record_hash bytea NOT NULL,
    PRIMARY KEY (follower, channel)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
"""

_PARKED: Final = """
CREATE TABLE IF NOT EXISTS {schema}.parked (
    follower text COLLATE "C" NOT NULL,
    service text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    channel text NOT NULL,
    stream text COLLATE "C" NOT NULL,
    type text NOT NULL,
    error text NOT NULL,
    first boolean NOT NULL,
    parked_us bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    PRIMARY KEY (follower, service, position)
);
CREATE INDEX IF NOT EXISTS parked_first ON {schema}.parked (follower) WHERE first;
CREATE INDEX IF NOT EXISTS parked_stream ON {schema}.parked (follower, service, stream, position)
"""


_COLUMNS: Final = """
SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


def checkpoint_table() -> str:
    """Return the name of the checkpoints' table."""
    return f"{LIVE}.checkpoints"


def parked_table() -> str:
    """Return the name of the table of parked facts."""
    return f"{LIVE}.parked"


def building_follower(view: View) -> str:
    """Return the name under which checkpoints and parked facts of a rebuild stand."""
    return f"building/{view.name}.v{view.version}"


def qualified(schema: str, view: View, table: Table) -> str:
    """Return a table's full name; all its parts are fixed words of ours, never input."""
    assert _NAME.fullmatch(view.name), view.name
    assert _NAME.fullmatch(table.name), table.name
    return f'{schema}."{view.name}_v{view.version}_{table.name}"'


def plain_type(annotation: Any) -> tuple[Any, bool]:
    """Return a column's Python type without None, and whether None is allowed."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (plain,) = (each for each in typing.get_args(annotation) if each is not type(None))
        return plain, True
    return annotation, False


def array_types(table: Table) -> dict[str, str]:
    """Return the SQL array type of every column, to hand whole columns over at once."""
    return {each.name: _ARRAYS[plain_type(each.type)[0]] for each in msgspec.structs.fields(table.row)}


async def lay_ground(connection: asyncpg.Connection) -> None:
    """Make what all views share where it is missing: the schema, the tables of checkpoints and of parked facts.

    A role without the right to create may work on tables that stand already.
    """
    if await connection.fetchval("SELECT to_regclass($1)", parked_table()):
        return
    async with making(connection, LIVE):
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {LIVE}")
        await connection.execute(_CHECKPOINTS.format(schema=LIVE))
        await connection.execute(_PARKED.format(schema=LIVE))


async def tables_stand(connection: asyncpg.Connection, view: View) -> bool:
    """Tell whether all live tables of the view are there; StoreError when one has other columns than it should."""
    for table in view.tables:
        name = qualified(LIVE, view, table)
        found = await connection.fetchval(_COLUMNS, name)
        if found is None:
            return False
        if tuple(found) != table.columns:
            raise StoreError(
                f"{name} has the columns {', '.join(found)}; this software's view has {', '.join(table.columns)}: "
                f"a view whose tables change needs a new version"
            )
    return True


async def create_tables(connection: asyncpg.Connection, schema: str, view: View) -> None:
    """Make the schema and the view's tables where they are missing, without indexes."""
    if not await connection.fetchval("SELECT to_regnamespace($1)", schema):
        async with making(connection, schema):  # views that are built at the same time would both make it
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for table in view.tables:
        columns = []
        for each in msgspec.structs.fields(table.row):
            plain, nullable = plain_type(each.type)
            columns.append(f'"{each.name}" {_TYPES[plain]}{"" if nullable else " NOT NULL"}')
        columns.append(f"PRIMARY KEY ({listed(table.key)})")
        name = qualified(schema, view, table)
        await connection.execute(f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)})")


async def create_indexes(connection: asyncpg.Connection, schema: str, view: View, timeout_seconds: float) -> None:
    """Make the further indexes of the view's tables."""
    for table in view.tables:
        for number, index in enumerate(table.indexes, 1):
            name = f'"{view.name}_v{view.version}_{table.name}_by{number}"'
            await connection.execute(
                f"CREATE INDEX IF NOT EXISTS {name} ON {qualified(schema, view, table)} ({listed(index)})",
                timeout=timeout_seconds,
            )


def listed(columns: tuple[str, ...]) -> str:
    """Return column names, quoted and separated."""
    return ", ".join(f'"{name}"' for name in columns)


_VERSIONED: Final = """
SELECT schemaname, tablename, substring(tablename FROM $2)::integer AS version FROM pg_tables
WHERE schemaname = ANY($1) AND tablename ~ $2 ORDER BY version, schemaname, tablename
"""


async def lower_versions(connection: asyncpg.Connection, view: View) -> dict[int, list[str]]:
    """Return the tables of each lower version of the view, live or left over from a rebuild."""
    found: dict[int, list[str]] = {}
    for row in await connection.fetch(_VERSIONED, [LIVE, BUILDING], f"^{view.name}_v([0-9]+)_"):
        if row["version"] < view.version:
            found.setdefault(row["version"], []).append(f'{row["schemaname"]}."{row["tablename"]}"')
    return found

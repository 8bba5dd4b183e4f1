"""Rows of views in bulk: fetched by key, written by whole columns or COPY, selected, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
import msgspec

from events.store import Checkpoint, CheckpointMoved, Move
from infra.postgres.view_parked import PostgresParked
from infra.postgres.view_tables import (
    BUILDING,
    LIVE,
    array_types,
    building_follower,
    checkpoint_table,
    listed,
    qualified,
)
from projections.store import Difference, RowsRefused, Select
from projections.view import Row, Table, View

_ROWS: Final = 10_000
"""Rows in one statement."""
_LONG_SECONDS: Final = 3_600

_MOVE: Final = f"UPDATE {checkpoint_table()} SET position = $4, record_hash = $5 WHERE follower = $1 AND channel = $2 AND position = $3"  # noqa: E501, S608
_BEGIN: Final = f"INSERT INTO {checkpoint_table()} VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"  # noqa: S608
_READ: Final = f"SELECT follower, channel, position, record_hash FROM {checkpoint_table()} WHERE follower = $1"  # noqa: S608


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell rows and keys no table can hold from everything else that may go wrong."""
    try:
        yield
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError) as error:
        raise RowsRefused(str(error)) from error
    except (ValueError, OverflowError, TypeError) as error:  # the driver cannot encode a value for its column
        raise RowsRefused(str(error)) from error


class PostgresWriter(PostgresParked):
    """One transaction on a view's tables."""

    def __init__(
        self, connection: asyncpg.Connection, schema: str, view: View, empty: set[Table] | None = None
    ) -> None:
        """Write in the caller's transaction; tables in `empty` hold no row yet and leave it with the first ones."""
        super().__init__(connection, view.follower if schema == LIVE else building_follower(view))
        self._schema = schema
        self._view = view
        self._empty = empty if empty is not None else set()

    async def fetch(self, table: Table, keys: Iterable[Any]) -> Sequence[Row]:
        """Return those rows of `keys` that exist."""
        assert not table.append_only, table.name
        name, make = qualified(self._schema, self._view, table), table.row
        types = array_types(table)
        unnest = ", ".join(f"${number}::{types[column]}" for number, column in enumerate(table.key, 1))
        columns = ", ".join(f'rows."{column}"' for column in table.columns)
        on = " AND ".join(f'rows."{column}" = keys."{column}"' for column in table.key)
        query = f"SELECT {columns} FROM unnest({unnest}) AS keys({listed(table.key)}) JOIN {name} AS rows ON {on}"  # noqa: S608 - names of ours
        single = len(table.key) == 1
        found: list[Row] = []
        with _refusing():
            for some in _batches(keys):
                arguments = [list(some)] if single else [list(column) for column in zip(*some, strict=True)]
                found.extend(make(*row) for row in await self._connection.fetch(query, *arguments))
        return found

    async def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert the rows, replacing those with the same key."""
        values = map(msgspec.structs.astuple, rows)
        if table.append_only or table in self._empty:
            self._empty.discard(table)
            with _refusing():
                await self._copy(table, values)
            return
        name, types = qualified(self._schema, self._view, table), array_types(table)
        unnest = ", ".join(f"${number}::{types[column]}" for number, column in enumerate(table.columns, 1))
        others = [column for column in table.columns if column not in table.key]
        sets = ", ".join(f'"{column}" = excluded."{column}"' for column in others)
        action = f"UPDATE SET {sets}" if sets else "NOTHING"
        statement = (
            f"INSERT INTO {name} ({listed(table.columns)}) SELECT * FROM unnest({unnest}) "  # noqa: S608 - names of ours
            f"ON CONFLICT ({listed(table.key)}) DO {action}"
        )
        with _refusing():
            for some in _batches(values):
                await self._connection.execute(statement, *[list(column) for column in zip(*some, strict=True)])

    async def _copy(self, table: Table, values: Iterable[tuple[Any, ...]]) -> None:
        schema, _, name = qualified(self._schema, self._view, table).partition(".")
        await self._connection.copy_records_to_table(
            name.strip('"'), schema_name=schema, columns=table.columns, records=values, timeout=_LONG_SECONDS
        )

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints by compare-and-swap."""
        for move in moves:
            point = move.after
            where = (point.follower, point.channel)
            done = await self._connection.execute(_MOVE, *where, move.before, point.position, point.record_hash)
            if done == "UPDATE 0" and move.before == 0:
                done = await self._connection.execute(_BEGIN, *where, point.position, point.record_hash)
            if done.endswith(" 0"):
                raise CheckpointMoved(f"{point.follower} on {point.channel} no longer at {move.before}")


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _ROWS)):
        yield some


async def read_checkpoints(connection: asyncpg.Connection, follower: str) -> Mapping[str, Checkpoint]:
    """Return the follower's checkpoints by channel."""
    return {row["channel"]: Checkpoint(*row) for row in await connection.fetch(_READ, follower)}


async def select_rows(connection: asyncpg.Connection, name: str, select: Select) -> Sequence[Row]:
    """Return the rows of the table `name` that `select` asks for."""
    arguments: list[Any] = []

    def argument(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    conditions = [f'"{column}" {sign} {argument(value)}' for column, sign, value in select.where]
    order = select.sorted_by
    if select.after is not None:
        sign = "<" if select.descending else ">"
        beyond = ", ".join(argument(value) for value in select.after)
        conditions.append(f"({listed(order)}) {sign} ({beyond})")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    direction = "DESC" if select.descending else "ASC"
    by = ", ".join(f'"{column}" {direction}' for column in order)
    query = f"SELECT {listed(select.table.columns)} FROM {name} {where} ORDER BY {by} LIMIT {argument(select.limit)}"  # noqa: S608 - names of ours, values as arguments
    make = select.table.row
    return [make(*row) for row in await connection.fetch(query, *arguments)]


async def digest_of(connection: asyncpg.Connection, schema: str, view: View) -> str:
    """Return the SHA-256 over PostgreSQL's COPY text of every table, each after its name and columns, by key."""
    digest = hashlib.sha256()

    async def take(data: bytes) -> None:
        digest.update(data)

    for table in view.tables:
        digest.update(f"{table.name} {listed(table.columns)}\n".encode())
        name = qualified(schema, view, table)
        query = f"SELECT {listed(table.columns)} FROM {name} ORDER BY {listed(table.key)}"  # noqa: S608 - names of ours
        await connection.copy_from_query(query, output=take, timeout=_LONG_SECONDS)
    return digest.hexdigest()


async def differences_of(connection: asyncpg.Connection, view: View, limit: int) -> list[Difference]:
    """Return the first rows that differ between the live tables and those under way, by table and key."""
    found: list[Difference] = []
    for table in view.tables:
        width, make = len(table.columns), table.row
        live, built = (", ".join(f'{side}."{column}"' for column in table.columns) for side in ("live", "built"))
        on = " AND ".join(f'live."{column}" = built."{column}"' for column in table.key)
        order = ", ".join(f'coalesce(live."{column}", built."{column}")' for column in table.key)
        names = (qualified(LIVE, view, table), qualified(BUILDING, view, table))
        query = (
            f"SELECT {live}, {built} FROM {names[0]} AS live FULL JOIN {names[1]} AS built ON {on} "  # noqa: S608 - names of ours
            f"WHERE ROW({live}) IS DISTINCT FROM ROW({built}) ORDER BY {order} LIMIT $1"
        )
        for row in await connection.fetch(query, limit - len(found), timeout=_LONG_SECONDS):
            # Columns of the key are never null in a row that is there.
            left = make(*row[:width]) if row[0] is not None else None
            right = make(*row[width:]) if row[width] is not None else None
            found.append(Difference(table.name, left, right))
    return found

"""What the policies of one service have parked, in a table beside the service's facts and its followers' checkpoints.

There, and not beside the views: a backup or a restore of the service's facts takes checkpoints and parked facts
together, so neither can be beyond the other. The table is made when the first fact is parked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.parked import Parked, Waiting
from events.store import Move
from infra.postgres.pool import translated
from infra.postgres.schema import lock_key, making, schema_name
from infra.postgres.session import swap
from infra.postgres.statements import statements_of

_FIELDS: Final = "follower, service, position, channel, stream, type, error, first"

_DDL: Final = """
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
    record bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (follower, service, position)
)
"""


class PostgresAside:
    """Parked facts of one service's policies. Whatever changes a policy's facts takes that policy's turn."""

    def __init__(self, pool: asyncpg.Pool, service: str) -> None:
        """Use a pool of the caller's; the service's schema must stand."""
        self._pool = pool
        self._service = service
        self._table = f"{schema_name(service)}.parked"
        self._rows = f"SELECT {_FIELDS}, parked_us, record FROM {self._table}"  # noqa: S608 - a name of ours, here and below
        self._stands = False

    async def blocked(self, follower: str) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        rows = await self._read(f"{self._rows} WHERE follower = $1 AND first", follower)
        return {(each.fact.service, each.fact.stream): each.fact.position for each in rows}

    async def park(self, move: Move, waiting: Waiting) -> None:
        """Set a fact aside and move the checkpoint beyond it, in one transaction."""
        async with self._turn(waiting.fact.follower) as connection:
            await swap(connection, statements_of(self._service), [move])
            await self._insert(connection, waiting)

    async def park_behind(self, move: Move, waiting: Waiting) -> bool:
        """Set a fact aside and move the checkpoint, if another of its stream is parked still."""
        fact = waiting.fact
        async with self._turn(fact.follower) as connection:
            where = (fact.follower, fact.service, fact.stream)
            query = f"SELECT EXISTS (SELECT FROM {self._table} WHERE follower = $1 AND service = $2 AND stream = $3)"  # noqa: S608
            if not await connection.fetchval(query, *where):
                return False
            await swap(connection, statements_of(self._service), [move])
            await self._insert(connection, waiting)
        return True

    async def parked(self, follower: str, after: tuple[str, int], limit: int) -> Sequence[Waiting]:
        """Return parked facts beyond `after` in order."""
        beyond = "WHERE follower = $1 AND (service, position) > ($2, $3) ORDER BY service, position LIMIT $4"
        return await self._read(f"{self._rows} {beyond}", follower, *after, limit)

    async def say(self, fact: Parked) -> None:
        """Say anew why a fact that is still parked blocks its stream."""
        async with self._turn(fact.follower) as connection:
            key = (fact.follower, fact.service, fact.position)
            text = f"UPDATE {self._table} SET error = $4 WHERE follower = $1 AND service = $2 AND position = $3"  # noqa: S608
            await connection.execute(text, *key, fact.error)

    async def release(self, fact: Parked) -> None:
        """Forget a parked fact; the first one left of its stream blocks the rest from now on."""
        async with self._turn(fact.follower) as connection:
            where = "follower = $1 AND service = $2"
            gone = f"DELETE FROM {self._table} WHERE {where} AND position = $3"  # noqa: S608
            await connection.execute(gone, fact.follower, fact.service, fact.position)
            foremost = f"SELECT min(position) FROM {self._table} WHERE {where} AND stream = $3"  # noqa: S608
            block = f"UPDATE {self._table} SET first = true WHERE {where} AND position = ({foremost})"  # noqa: S608
            await connection.execute(block, fact.follower, fact.service, fact.stream)

    async def alarms(self) -> Sequence[Parked]:
        """Return the first parked fact of every stream of every policy."""
        rows = await self._read(f"{self._rows} WHERE first ORDER BY follower, service, position")
        return [each.fact for each in rows]

    async def counts(self) -> Mapping[str, int]:
        """Return how many facts each policy has parked, for those that have any."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            rows = await self._pool.fetch(f"SELECT follower, count(*) FROM {self._table} GROUP BY 1")  # noqa: S608
            return {row[0]: row[1] for row in rows}
        return {}

    async def _read(self, query: str, *arguments: object) -> list[Waiting]:
        with translated(), suppress(asyncpg.UndefinedTableError):
            return [
                Waiting(Parked(*row[:-1]), row[-1]) for row in map(tuple, await self._pool.fetch(query, *arguments))
            ]
        return []

    async def _insert(self, connection: asyncpg.Connection, waiting: Waiting) -> None:
        """Insert a fact unless it stands there: a policy that was sent back comes by it a second time."""
        values = [getattr(waiting.fact, field) for field in _FIELDS.split(", ")]
        text = f"INSERT INTO {self._table} ({_FIELDS}, record) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) "  # noqa: S608
        await connection.execute(
            f"{text} ON CONFLICT (follower, service, position) DO NOTHING", *values, waiting.record
        )

    @asynccontextmanager
    async def _turn(self, follower: str) -> AsyncIterator[asyncpg.Connection]:
        """Open a transaction in which nobody else parks or releases facts of this policy."""
        with translated():
            async with self._pool.acquire() as connection:
                await self._lay_ground(connection)
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("aside", follower))
                    yield connection

    async def _lay_ground(self, connection: asyncpg.Connection) -> None:
        if not self._stands and not await connection.fetchval("SELECT to_regclass($1)", self._table):
            async with making(connection, self._service):
                await connection.execute(_DDL.format(schema=schema_name(self._service)))
        self._stands = True

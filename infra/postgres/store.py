"""The event store on PostgreSQL: one schema per service, one writer at a time, readers that never wait.

Why positions are safe to tail: a writer takes the service's advisory lock, reads the head, writes head+1, head+2 ...
and the lock ends with its commit. So the next writer starts only after that commit, and commit order is position
order. There is no counter row to update (it would collect dead versions while any old snapshot is open); the head is
the last entry of the position index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import asyncpg  # type: ignore[import-untyped]
from eventsourcing.persistence import Notification, StoredEvent

from events.store import (
    PAGE,
    Checkpoint,
    Head,
    Move,
    Snapshot,
    StoreError,
    StoreRewound,
)
from infra.postgres.pool import StoreConnection, open_pool, translated
from infra.postgres.rows import notifications
from infra.postgres.schema import prepare_schema
from infra.postgres.session import PostgresSession, swap, take_turn
from infra.postgres.statements import statements_of
from infra.postgres.versions import StreamVersions
from infra.postgres.wakeups import Wakeups
from infra.store_rules import chained

POLL_SECONDS: Final = 1.0
"""How long a lost wake-up can stay unnoticed while the listening connection stands."""
BLIND_POLL_SECONDS: Final = 0.2
"""The same while there is no listening connection."""

CHUNK: Final = 2_500
"""Rows fetched at a time at most; fewer when those read last were so large that fewer fit in a page."""
PAGE_BYTES: Final = 8_000_000
"""Bytes of records after which a page ends early: 5,000 facts of 64 KB would take 320 MB."""


class PostgresStore:
    """The facts of one service. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        service: str,
        pool: asyncpg.Pool,
        wakeups: Wakeups,
        *,
        readers: asyncpg.Pool | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Use pools and wake-ups of the caller (see `open` and `open_stores`); the schema must stand.

        `clock` tells microseconds UTC and replaces the database's clock; `readers` serves everything that only reads.
        """
        self.service = service
        self._pool = pool
        self._readers = readers if readers is not None else pool
        self._wakeups = wakeups
        self._clock = clock
        self._statements = statements_of(service)
        self._versions = StreamVersions()
        self._seen = Head()
        self._turns = asyncio.Lock()  # what this object has seen holds from the lock to the commit
        self._latest = 0
        self._woken = asyncio.Event()
        self._record_bytes = 8_000  # of those read last, on average
        self._listens = False
        self._owned: tuple[asyncpg.Pool, Wakeups] | None = None

    @classmethod
    async def open(cls, dsn: str, service: str, clock: Callable[[], int] | None = None, *, pool_size: int = 8) -> Self:
        """Open a store with connections of its own, creating the tables where they are missing.

        Raises StoreUnavailable when the database is away, StoreError when its tables are newer than this program.
        """
        pool = await open_pool(dsn, size=pool_size)
        try:
            await prepare(pool, service)
        except BaseException:
            pool.terminate()
            raise
        store = cls(service, pool, Wakeups(dsn), clock=clock)
        store._owned = (store._pool, store._wakeups)
        return store

    async def close(self) -> None:
        """Close what `open` opened; shared pools stay."""
        self._wakeups.remove(self._statements.channel, self._told)
        if self._owned is not None:
            pool, wakeups = self._owned
            await wakeups.close()
            await pool.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[PostgresSession]:
        """Take the service's writer lock; leaving without an error commits.

        News is told once, whatever becomes of the session: fold it first, or remember by position what is folded.
        When the owner cannot know the commit's fate (StoreUnavailable, or cancelled meanwhile), the session's own
        facts come as news of the next one if they are stored.
        """
        async with self._turns:
            with translated():
                connection = await self._pool.acquire()
            try:
                turn = await take_turn(connection, self._statements, self._seen.position, self._clock)
                self._refuse_a_rewound_store(turn.found)
                self._versions.news(turn.news)
                self._seen = turn.head
                self._wake(turn.head.position)
                session = PostgresSession(connection, self._statements, turn, self._versions)
                yield session
                self._seen = await session.commit()
                self._wake(self._seen.position)
            finally:
                await self._give_back(connection)

    def _refuse_a_rewound_store(self, found: bytes) -> None:
        seen = self._seen
        if seen.position and (not found or (seen.record_hash and seen.record_hash != found)):
            checkpoint = Checkpoint(f"writer of {self.service}", self.service, seen.position, seen.record_hash)
            raise StoreRewound(checkpoint, found)

    async def _give_back(self, connection: Any) -> None:
        """Roll back what is open and return the connection; one that was lost has left the pool by itself."""
        lost = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        try:
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK", timeout=5)
        except lost:
            with suppress(*lost):
                connection.terminate()
        finally:
            with suppress(*lost):
                await self._pool.release(connection)

    def seen(self, position: int) -> None:
        """Let `news` start after `position`; see the port."""
        if position > self._seen.position:
            self._seen = Head(position)
        if position > self._versions.position:
            self._versions.skip_to(position)

    async def head(self) -> Head:
        """Return the last committed record."""
        with translated():
            row = await self._readers.fetchrow(self._statements.head)
        head = Head(*row) if row else Head()
        self._wake(head.position)
        return head

    async def read(self, after: int, limit: int = PAGE) -> Sequence[Notification]:
        """Return committed records after `after`, in order, at most `limit`; a page of large facts ends early.

        So a short page is not the end; an empty one is.
        """
        rows: list[Any] = []
        size = 0
        with translated():
            async with self._readers.acquire() as connection:
                while len(rows) < limit and size < PAGE_BYTES:
                    asked = min(limit - len(rows), (PAGE_BYTES - size) // self._record_bytes + 1, CHUNK)
                    chunk = await connection.fetch(self._statements.read, after, asked)
                    rows += chunk
                    if chunk:
                        chunk_bytes = sum([len(row[3]) for row in chunk])
                        self._record_bytes = chunk_bytes // len(chunk) + 1
                        size += chunk_bytes
                        after = chunk[-1][4]
                    if len(chunk) < asked:
                        break
        return notifications(rows)

    async def read_stream(self, stream: str, after: int = 0, limit: int = PAGE) -> Sequence[StoredEvent]:
        """Return the stream's records with version > `after`, in order, at most `limit`."""
        with translated():
            rows = await self._readers.fetch(self._statements.read_stream, stream, after, limit)
        return [StoredEvent(stream, version, topic, state) for version, topic, state in rows]

    def _wake(self, position: int) -> None:
        if position > self._latest:
            self._latest = position
            self._look_again()

    def _look_again(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()

    def _told(self, position: int) -> None:
        if position:
            self._wake(position)
        else:  # the listening connection is new: what was committed meanwhile was not told
            self._look_again()

    async def wait(self, after: int, timeout_seconds: float) -> bool:
        """Return True as soon as a record after `after` is committed, False when the time is over.

        A database that is away is waited for as well, until the time is over.
        """
        if not self._listens:
            self._listens = True
            await self._wakeups.add(self._statements.channel, self._told)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while self._latest <= after:
            woken = self._woken
            with suppress(StoreError):
                await self.head()
            left = deadline - loop.time()
            if self._latest > after or left <= 0:
                break
            pause = POLL_SECONDS if self._wakeups.listening else BLIND_POLL_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), min(left, pause))
        return self._latest > after

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        with translated():
            rows = await self._readers.fetch(self._statements.checkpoints, follower)
        return {row["channel"]: Checkpoint(*row) for row in rows}

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints by compare-and-swap; all of them or none."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await swap(connection, self._statements, chained(moves))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the snapshot in place of an older one of its name."""
        row = (snapshot.name, snapshot.version, snapshot.position, snapshot.record_hash, snapshot.state)
        with translated():
            await self._pool.execute(self._statements.save_snapshot, *row)

    async def load_snapshot(self, name: str, version: int) -> Snapshot | None:
        """Return the snapshot of that name and version, or None."""
        with translated():
            row = await self._readers.fetchrow(self._statements.load_snapshot, name, version)
        return Snapshot(*row) if row else None


async def prepare(pool: asyncpg.Pool, service: str) -> None:
    """Create the tables of a service where they are missing; see `prepare_schema`."""
    with translated():
        async with pool.acquire() as connection:
            await prepare_schema(connection, service)


@asynccontextmanager
async def open_stores(
    dsn: str,
    services: Sequence[str],
    clock: Callable[[], int] | None = None,
    *,
    pool_size: int = 8,
    readers: asyncpg.Pool | None = None,
    connections: type[asyncpg.Connection] = StoreConnection,
) -> AsyncIterator[dict[str, PostgresStore]]:
    """Open the stores of several services over one pool and one listening connection; closed on leaving."""
    pool = await open_pool(dsn, size=pool_size, connections=connections)
    wakeups = Wakeups(dsn)
    try:
        for service in services:
            await prepare(pool, service)
        yield {name: PostgresStore(name, pool, wakeups, readers=readers, clock=clock) for name in services}
    finally:
        await wakeups.close()
        await pool.close()

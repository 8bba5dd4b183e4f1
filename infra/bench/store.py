"""Benchmarks of the store: appending and tailing, each beside its baseline.

Every benchmark works in a schema of its own on the database it is given and drops it. The database must run with
fsync on; `Unsafe` is raised otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from eventsourcing.persistence import StoredEvent

from infra.bench.library import library_datastore
from infra.bench.rounds import Figure, Work, alternate
from infra.postgres.pool import translated
from infra.postgres.statements import EVENT_COLUMNS
from infra.postgres.store import PostgresStore

STATE_BYTES: Final = 400
"""A typical fact of ours, envelope included."""
STREAMS: Final = 1_000
GROUP: Final = 512
"""Facts in a group commit when 512 callers each wait for one."""
THREADS: Final = (1, 2, 4, 8)

SERVICE: Final = "bench_store"
RAW: Final = "bench_raw"
LIBRARY: Final = "bench_library"

_RAW_TABLE: Final = f"""
CREATE SCHEMA {RAW};
CREATE TABLE {RAW}.events (LIKE {SERVICE}.events INCLUDING ALL);
"""


class Unsafe(Exception):
    """The database would lose commits, so its figures mean nothing."""


@dataclass(slots=True)
class Feed:
    """Makes facts with dense versions over a fixed number of streams, the same bytes for everyone."""

    prefix: str
    made: int = 0

    def take(self, number: int) -> list[StoredEvent]:
        """Return the next `number` facts."""
        begin, self.made = self.made, self.made + number
        return [
            StoredEvent(
                f"{self.prefix}/{index % STREAMS}",
                index // STREAMS + 1,
                "metering.readings-recorded.v1",
                b'{"specversion":"1.0","id":"%032x"' % index + b"x" * (STATE_BYTES - 66) + b"}",
            )
            for index in range(begin, begin + number)
        ]


@asynccontextmanager
async def ground(dsn: str) -> AsyncIterator[tuple[PostgresStore, Any]]:
    """Open a store and a raw connection on empty schemas; drop them at the end."""
    drop = f"DROP SCHEMA IF EXISTS {SERVICE}, {RAW}, {LIBRARY} CASCADE"
    with translated():
        connection = await asyncpg.connect(dsn)
    try:
        if (
            await connection.fetchval("SHOW fsync") != "on"
            or await connection.fetchval("SHOW full_page_writes") != "on"
        ):
            raise Unsafe("fsync and full_page_writes must be on")
        await connection.execute(drop)
        store = await PostgresStore.open(dsn, SERVICE)
        try:
            await connection.execute(_RAW_TABLE)
            await connection.execute(f"CREATE SCHEMA {LIBRARY}")
            yield store, connection
        finally:
            await store.close()
    finally:
        await connection.execute(drop)
        await connection.close()


def appending(store: PostgresStore, size: int, times: int) -> Work:
    """Return a round that appends `times` batches of `size` facts, one session each."""
    feed = Feed(f"size{size}")

    async def work(_round: int) -> int:
        for _ in range(times):
            events = feed.take(size)
            async with store.session() as session:
                await session.append(events, seal=lambda event, _position, _time_us: event.state)
        return size * times

    return work


def copying(connection: Any, size: int, times: int) -> Work:
    """Return the same round as raw COPY into a table with the same indexes, one transaction per batch."""
    feed, positions = Feed(f"size{size}"), count(1)

    async def work(_round: int) -> int:
        for _ in range(times):
            rows = [
                (each.originator_id, each.originator_version, each.topic, each.state, next(positions), 1)
                for each in feed.take(size)
            ]
            await connection.copy_records_to_table("events", schema_name=RAW, columns=EVENT_COLUMNS, records=rows)
        return size * times

    return work


async def bench_batches(dsn: str, *, rounds: int = 5, size: int = 1_000, times: int = 20) -> Figure:
    """Append batches through the store and by raw COPY; facts per second. Floor of the ratio: 0.25."""
    async with ground(dsn) as (store, connection):
        ours, raw = await alternate(rounds, appending(store, size, times), copying(connection, size, times))
    return Figure(f"append, batches of {size}", ours, raw, ours / raw, "facts/s", "raw COPY", "ratio >= 0.25")


class LibraryRecorder:
    """The library's locked recorder appending one fact per call from several threads."""

    def __init__(self, dsn: str, calls: int) -> None:
        """Create the library's tables in their own schema; a round makes `calls` appends."""
        from eventsourcing.postgres import PostgresProcessRecorder  # noqa: PLC0415 - needs psycopg

        self.datastore = library_datastore(dsn, LIBRARY, connections=max(THREADS))
        self.recorder = PostgresProcessRecorder(self.datastore)
        self.recorder.create_table()
        self.calls = calls

    def on(self, threads: int) -> Work:
        """Return a round of `calls` appends over that many threads."""
        feeds = [Feed(f"threads{threads}-{number}") for number in range(threads)]

        def append(feed: Feed) -> None:
            for _ in range(self.calls // threads):
                self.recorder.insert_events(feed.take(1))

        async def work(_round: int) -> int:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(threads) as pool:
                await asyncio.gather(*(loop.run_in_executor(pool, append, feed) for feed in feeds))
            return self.calls // threads * threads

        return work


async def bench_groups(dsn: str, *, rounds: int = 5, calls: int = 400) -> Figure:
    """Append one-fact commands: groups of 512 through the store, the library at its best thread count.

    The store alone is measured here; deciding, encoding and outcomes are benched with the kernel.
    """
    async with ground(dsn) as (store, _connection):
        library = LibraryRecorder(dsn, calls)
        try:
            works = [library.on(threads) for threads in THREADS]
            ours, *theirs = await alternate(rounds, appending(store, GROUP, 20), *works)
        finally:
            library.datastore.close()
    best = max(theirs)
    name = f"the library's recorder, {THREADS[theirs.index(best)]} threads"
    return Figure(f"append, groups of {GROUP}", ours, best, ours / best, "facts/s", name, "ratio >= 10")


async def bench_tail(dsn: str, *, rounds: int = 5, facts: int = 100_000) -> Figure:
    """Read everything in pages by position, as a follower does; the baseline fetches the same rows and drops them."""
    async with ground(dsn) as (store, connection):
        await appending(store, 5_000, facts // 5_000)(0)
        query = f"SELECT * FROM {SERVICE}.events WHERE notification_id > $1 ORDER BY notification_id LIMIT 5000"  # noqa: S608

        async def tail(_round: int) -> int:
            position = 0
            while page := await store.read(position):
                position = page[-1].id
            return position

        async def fetch(_round: int) -> int:
            position = 0
            while rows := await connection.fetch(query, position):
                position = rows[-1]["notification_id"]
            return position

        ours, raw = await alternate(rounds, tail, fetch)
    return Figure("tail", ours, raw, ours / raw, "facts/s", "raw SELECT by key", "ours >= 500,000")

"""Benchmark of rebuilding the balances, beside the eventsourcing library's way of keeping a projection.

Ours is the whole of `commons rebuild balances`: read from PostgreSQL, decode, fold, write, hash, swap. The baseline
is the library's `ProjectionRunner` over its own recorder on the same database: it commits one fact at a time, so it
gets fewer facts and rates are compared.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.envelope import Draft, encode_data, fact_id, open_record, seal_record
from events.facts import catalog
from events.treasury import Posting, TransactionPosted
from infra.bench.library_projection import library_projection
from infra.bench.rounds import Figure, Work, alternate
from infra.postgres.pool import open_pool, translated
from infra.postgres.statements import EVENT_COLUMNS
from infra.postgres.store import PostgresStore, prepare
from infra.postgres.views import PostgresViews
from infra.postgres.wakeups import Wakeups
from projections import balances
from projections.rebuild import RebuildReport, rebuild
from projections.view import View

FEW_ACCOUNTS: Final = 2_000
MANY_ACCOUNTS: Final = 100_000
FLOOR_FEW: Final = 200_000
FLOOR_MANY: Final = 60_000

STREAM: Final = "book/COMPUTE"
SERVICE: Final = "bench_rebuild"
LIBRARY: Final = "bench_projection"
_TIME: Final = "2026-11-20T12:00:00.000000Z"


def records(facts: int, accounts: int) -> Iterator[bytes]:
    """Yield that many sealed transactions of one posting each, between accounts drawn with a fixed seed."""
    draw = random.Random(accounts)  # noqa: S311 - a reproducible load, no secret
    names = [f"member/{hashlib.sha256(str(index).encode()).hexdigest()[:32]}" for index in range(accounts)]
    for position in range(1, facts + 1):
        debit, credit = draw.sample(range(accounts), 2)
        key = hashlib.sha256(position.to_bytes(8, "big")).digest()
        posting = Posting(names[debit], names[credit], str(draw.randrange(1, 10**9)))
        fact = TransactionPosted(f"transaction/{key.hex()[:32]}", (posting,), authorization=None)
        draft = Draft(
            id=fact_id(key, 0),
            source="https://bench.example/treasury",
            type=TransactionPosted.TYPE,
            subject=STREAM,
            data=encode_data(fact),
            actor=names[debit],
            commandid=key.hex(),
        )
        yield seal_record(open_record(draft), position, _TIME, position)


def bench_view() -> View:
    """Return the balances under a name of the benchmark's own, so that a live instance keeps its tables."""
    view = balances.VIEW
    return View("bench_balances", view.version, (SERVICE,), view.tables, view.handlers)


@asynccontextmanager
async def ground(
    dsn: str, facts: int, accounts: int, *, streams: int = 1
) -> AsyncIterator[tuple[PostgresStore, PostgresViews]]:
    """Fill a store of the benchmark's own by COPY; drop everything at the end.

    The facts are those of one book. With more `streams` they stand under as many names in turn, to fill partitions.
    """
    pool = await open_pool(dsn, size=4)
    wakeups = Wakeups(dsn)
    try:
        await _clear(pool)
        await prepare(pool, SERVICE)
        rows = (
            (_stream(index, streams), (index - 1) // streams + 1, TransactionPosted.TYPE, record, index, 1)
            for index, record in enumerate(records(facts, accounts), 1)
        )
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("events", schema_name=SERVICE, columns=EVENT_COLUMNS, records=rows)
            await connection.execute(f"ANALYZE {SERVICE}.events")
        yield PostgresStore(SERVICE, pool, wakeups), PostgresViews(pool)
    finally:
        await _clear(pool)
        await wakeups.close()
        await pool.close()


def _stream(index: int, streams: int) -> str:
    return STREAM if streams == 1 else f"{STREAM}-{index % streams}"


async def _clear(pool: asyncpg.Pool) -> None:
    with translated():
        await pool.execute(f"DROP SCHEMA IF EXISTS {SERVICE} CASCADE")
        await pool.execute(f"DROP SCHEMA IF EXISTS {LIBRARY} CASCADE")
    await clear_view(pool)


async def clear_view(pool: asyncpg.Pool) -> None:
    """Drop the benchmark's view with its checkpoints."""
    view = bench_view()
    with translated():
        if await pool.fetchval("SELECT to_regclass('views.checkpoints')"):
            await pool.execute("DELETE FROM views.checkpoints WHERE follower = $1", view.follower)
            for table in view.tables:
                await pool.execute(f'DROP TABLE IF EXISTS views."{view.name}_v{view.version}_{table.name}"')


def rebuilding(store: PostgresStore, views: PostgresViews) -> Work:
    """Return a round that rebuilds the balances; the first one builds them, later ones must give the same hash."""
    view, facts = bench_view(), catalog()

    async def work(number: int) -> int:
        report: RebuildReport = await rebuild(view, views, {SERVICE: store}, facts)
        assert number == 0 or report.equal, report
        return report.facts

    return work


async def bench_rebuild(
    dsn: str, *, accounts: int = FEW_ACCOUNTS, facts: int = 300_000, library_facts: int = 2_000, rounds: int = 3
) -> Figure:
    """Rebuild the balances of `facts` transactions; facts per second, against the library one fact at a time."""
    async with ground(dsn, facts, accounts) as (store, views):
        with library_projection(dsn, LIBRARY, list(records(library_facts, accounts))) as baseline:
            ours, theirs = await alternate(rounds, rebuilding(store, views), baseline)
    floor = FLOOR_FEW if accounts <= FEW_ACCOUNTS else FLOOR_MANY
    return Figure(
        f"rebuild of balances, {accounts:,} accounts",
        ours,
        theirs,
        ours / theirs,
        "facts/s",
        "the library's ProjectionRunner",
        f">= {floor:,} facts/s",
    )

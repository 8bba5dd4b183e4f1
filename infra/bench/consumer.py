"""Benchmark of a consumer: the balances kept in PostgreSQL by one follower, through Kafka and along the store itself.

A relay has filled the topic before. The time begins when the first page has come, and that page is not counted; so
joining the group and finding the place are left out, and nothing that was fetched before.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from statistics import median
from typing import Any, Final

from events.bus import Bus, Page
from events.facts import catalog
from infra.bench.rebuild import bench_view, clear_view, ground
from infra.bench.relay import STREAMS, relayed
from infra.bench.rounds import Figure
from infra.kafka.bus import KafkaBus
from infra.kafka.topics import Cluster
from infra.postgres.pool import open_pool
from infra.postgres.views import PostgresViews
from infra.tail import TailBus
from projections.runner import ViewRunner

FACTS: Final = 200_000
ROUNDS: Final = 3
ACCOUNTS: Final = 2_000
FLOOR: Final = 50_000


class _Timed(ViewRunner):
    """A runner that knows how fast it was, once `last` facts have taken effect."""

    rate = 0.0

    def expect(self, facts: int) -> _Timed:
        """Wait for that many."""
        self._left, self._counted, self._begun = facts, 0, 0.0
        self.done = asyncio.Event()
        return self

    async def take(self, page: Page) -> None:
        """Fold a page; see ViewRunner."""
        first = not self._begun
        if first:
            self._begun = time.perf_counter()
        await super().take(page)
        self._left -= len(page.records)
        self._counted += 0 if first else len(page.records)
        if not self._left:
            self.rate = self._counted / (time.perf_counter() - self._begun)
            self.done.set()


async def followed(bus: Bus, views: PostgresViews, facts: int, clear: Callable[[], Awaitable[Any]]) -> float:
    """Return the facts per second of the balances, followed from the first fact into empty tables."""
    await clear()
    gc.collect()
    runner = _Timed(bench_view(), views, bus, catalog()).expect(facts)
    running = asyncio.create_task(runner.run())
    over = asyncio.create_task(runner.done.wait())
    try:
        await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, over):
            task.cancel()
        await asyncio.gather(running, over, return_exceptions=True)
    return runner.rate


async def bench_consumer(
    dsn: str, shared: Cluster, *, streams: int = 1, rounds: int = ROUNDS, facts: int = FACTS
) -> Figure:
    """Measure one consumer of `streams` books; facts per second. Floor: 50,000 through Kafka.

    One book is one stream, so one partition; more of them fill all partitions.
    """
    async with AsyncExitStack() as stack:
        cluster = replace(shared, prefix=f"{shared.prefix}{streams}-streams.")
        store, views = await stack.enter_async_context(ground(dsn, facts, ACCOUNTS, streams=streams))
        await relayed(store, cluster, facts)
        stores = {store.service: store}
        pool = await stack.enter_async_context(await open_pool(dsn, size=1))
        buses: tuple[Bus, ...] = (KafkaBus(cluster, stores), TailBus(stores))
        rates: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for index, bus in enumerate(buses):
                measured = await followed(bus, views, facts, lambda: clear_view(pool))
                if number:  # the first round only warms up
                    rates[index].append(measured)
    kafka, tail = map(median, rates)
    told = "one book" if streams == 1 else f"{streams:,} streams"
    name = f"balances in PostgreSQL through Kafka, {told}"
    return Figure(name, kafka, tail, kafka / tail, "facts/s", "the same along the store", f"ours >= {FLOOR:,}")


async def bench_consumers(dsn: str, cluster: Cluster) -> list[Figure]:
    """Measure one book, and streams in all partitions."""
    return [await bench_consumer(dsn, cluster, streams=streams) for streams in (1, STREAMS)]

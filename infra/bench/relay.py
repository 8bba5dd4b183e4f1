"""Benchmark of the relay: from the store into the topic, beside a bare aiokafka producer.

The producer gets the same facts as prepared records in memory: the same bytes, keys, headers, timestamps, partitions
and settings, with no database to read and nothing to work out. It is measured both ways the library offers: record by
record, which is its usual interface, and by whole batches, as the relay sends. Either side's time begins with its
first record, before the relay's first reading of the store, and ends with the last acknowledgement.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from statistics import median
from typing import Any, Final

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from eventsourcing.persistence import Notification

from events.channels import partition_of
from infra.bench.rebuild import ground
from infra.bench.rounds import Figure
from infra.kafka.publisher import BATCH_BYTES, REQUEST_SECONDS, Delivery, Publisher
from infra.kafka.records import fact_headers, recorded_ms
from infra.kafka.relay import Relay
from infra.kafka.topics import Cluster, ensure_topics
from infra.postgres.store import PostgresStore

FACTS: Final = 100_000
ROUNDS: Final = 5
STREAMS: Final = 1_000
ACCOUNTS: Final = 2_000
_NO_TRACES: Final[Mapping[int, str]] = {}

Record = tuple[int, dict[str, Any]]
"""The partition of a fact, and what the library appends for it: key, value, timestamp, headers."""

Sending = Callable[[AIOKafkaProducer, str, Sequence[Record]], Awaitable[None]]


@asynccontextmanager
async def nobody_else() -> AsyncIterator[asyncio.Event]:
    """Hold a role that no other process wants."""
    yield asyncio.Event()


class _Watch:
    """When the first fact was handed over, and when the last one was acknowledged."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.begun = self.ended = 0.0
        self.done = asyncio.Event()

    def over(self, all_of_it: asyncio.Future[Any]) -> None:
        if not all_of_it.cancelled() and all_of_it.exception() is None:  # else the relay itself ends with it
            self.ended = time.perf_counter()
            self.done.set()


async def relayed(store: PostgresStore, cluster: Cluster, facts: int) -> float:
    """Return the facts per second of a relay that publishes the store from its beginning."""
    watch = _Watch(facts)
    sent: list[Delivery] = []

    class Timed(Publisher):
        """Tells when it began and when all was acknowledged."""

        async def facts(self, page: Sequence[Notification], traces: Mapping[int, str] = _NO_TRACES) -> list[Delivery]:
            """Send a page; see Publisher."""
            deliveries = await super().facts(page, traces)
            sent.extend(deliveries)
            if page[-1].id == watch.last:
                asyncio.gather(*sent).add_done_callback(watch.over)
            return deliveries

    class FromStart(Relay):
        """Tells when its store is read first."""

        async def _follow(self, *given: Any) -> None:
            watch.begun = time.perf_counter()
            await super()._follow(*given)

    relaying = asyncio.create_task(FromStart(store, cluster, nobody_else, Timed).publish())
    over = asyncio.create_task(watch.done.wait())
    try:
        await asyncio.wait([relaying, over], return_when=asyncio.FIRST_COMPLETED)
        if relaying.done():
            relaying.result()
    finally:
        for task in (relaying, over):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    return facts / (watch.ended - watch.begun)


async def prepared(store: PostgresStore, partitions: int) -> list[Record]:
    """Return what a relay of the store sends, in its order."""
    found: list[Record] = []
    ends = dict.fromkeys(range(partitions), 0)
    position = 0
    while page := await store.read(position):
        for fact in page:
            stream = str(fact.originator_id)
            number = partition_of(stream, partitions)
            headers = fact_headers(fact, ends[number])
            given = {"key": stream.encode(), "value": fact.state, "headers": headers}
            found.append((number, {**given, "timestamp": recorded_ms(fact.state)}))
            ends[number] = fact.id
        position = page[-1].id
    return found


async def produced(cluster: Cluster, service: str, records: Sequence[Record], sending: Sending) -> float:
    """Return the records per second of a bare producer with the relay's settings."""
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap,
        enable_idempotence=True,
        acks="all",
        max_batch_size=BATCH_BYTES,
        request_timeout_ms=REQUEST_SECONDS * 1_000,
    )
    await ensure_topics(cluster, [service])
    await producer.start()
    try:
        begun = time.perf_counter()
        await sending(producer, cluster.topic(service), records)
        return len(records) / (time.perf_counter() - begun)
    finally:
        await producer.stop()


async def one_by_one(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    """Send each record by itself; the library batches."""
    sent = [
        await producer.send(
            topic,
            given["value"],
            key=given["key"],
            partition=number,
            timestamp_ms=given["timestamp"],
            headers=given["headers"],
        )
        for number, given in records
    ]
    await asyncio.gather(*sent)


async def by_batches(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    """Fill batches until they are full, and send those."""
    sent: list[Delivery] = []
    filling: dict[int, Any] = {}
    for number, given in records:
        batch = filling.get(number)
        if batch is None or batch.append(**given) is None:
            if batch is not None:
                batch.close()
                sent.append(await producer.send_batch(batch, topic, partition=number))
            batch = filling[number] = producer.create_batch()
            batch.append(**given)
    for number, batch in filling.items():
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=number))
    await asyncio.gather(*sent)


BASELINES: Final[Mapping[str, Sending]] = {"record by record": one_by_one, "batches made beforehand": by_batches}
FLOORS: Final = {"record by record": "ratio >= 0.70", "batches made beforehand": ""}


async def bench_relay(dsn: str, cluster: Cluster, *, rounds: int = ROUNDS, facts: int = FACTS) -> list[Figure]:
    """Measure the relay against a bare producer, facts per second. Floor of the ratio: 0.70.

    The second figure is against batches made beforehand, which is as much as the library's connection carries.
    """
    async with ground(dsn, facts, ACCOUNTS, streams=STREAMS) as (store, _views):
        records = await prepared(store, cluster.partitions)
        rates: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            for name in ("relay", *BASELINES):
                fresh = replace(cluster, prefix=f"{cluster.prefix}{number}-{name.replace(' ', '-')}.")
                gc.collect()
                if name == "relay":
                    measured = await relayed(store, fresh, facts)
                else:
                    measured = await produced(fresh, store.service, records, BASELINES[name])
                if number:  # the first round only warms up
                    rates.setdefault(name, []).append(measured)
    medians = {name: median(each) for name, each in rates.items()}
    ours = medians.pop("relay")
    return [
        Figure("relay", ours, rate, ours / rate, "facts/s", f"bare aiokafka producer, {name}", FLOORS[name])
        for name, rate in medians.items()
    ]

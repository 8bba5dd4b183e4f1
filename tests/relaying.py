"""Relays at work beside a test, and what they can be made to do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from eventsourcing.persistence import Notification

from events.store import Store
from infra.kafka.publisher import Delivery, Publisher
from infra.kafka.relay import Relay
from infra.kafka.topics import Cluster

NO_TRACES: Mapping[int, str] = {}


@asynccontextmanager
async def nobody_else() -> AsyncIterator[asyncio.Event]:
    """Hold a role that no other process wants."""
    yield asyncio.Event()


class TwicePublisher(Publisher):
    """Sends everything twice, as a relay does that lost every acknowledgement."""

    async def facts(self, page: Sequence[Notification], traces: Mapping[int, str] = NO_TRACES) -> list[Delivery]:
        before = dict(self._sent)
        first = await super().facts(page, traces)
        self._sent = before
        return first + await super().facts(page, traces)

    async def watermarks(self, last: Notification, record_hash: bytes) -> list[Delivery]:
        before = dict(self._reached)
        first = await super().watermarks(last, record_hash)
        self._reached = before
        return first + await super().watermarks(last, record_hash)


@asynccontextmanager
async def relaying(
    stores: Iterable[Store], cluster: Cluster, publisher: type[Publisher] = Publisher
) -> AsyncIterator[list[Relay]]:
    """Run the relays of `stores`; a relay that ends with an error is an error here."""
    relays = [Relay(store, cluster, nobody_else, publisher) for store in stores]
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield relays
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

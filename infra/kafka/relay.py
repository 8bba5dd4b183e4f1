"""The relay of one service: follows its store by position and publishes every fact, in order, at least once.

Where to go on after a restart is read off the topic itself: a partition's last record names its position, and the one
before it where it is a watermark. So a topic that lost its end, or was made anew, is filled again by itself. The
checkpoint beside the facts says how far the brokers have acknowledged; its record hash, and those of the partitions'
last records, are compared with the store first: a store restored from an older backup stops the relay.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from eventsourcing.persistence import Notification

from events.store import Checkpoint, CheckpointMoved, Move, Store, StoreUnavailable, read_on, verify_checkpoint
from events.telemetry import Telemetry, distinct
from infra.kafka.ends import last_records
from infra.kafka.publisher import Delivery, Publisher
from infra.kafka.topics import Cluster, ensure_topics, translated

FOLLOWER: Final = "relay"
WATERMARK_SECONDS: Final = 0.2
"""Idle partitions are told how far the service is at most this often."""
KEEP_SECONDS: Final = 0.2
"""The checkpoint beside the facts moves at most this often."""
PAGES_IN_FLIGHT: Final = 2
"""Pages sent and not yet acknowledged; a page is at most a few MB. The relay waits when there are more."""
_IDLE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger(__name__)

Alone = Callable[[], AbstractAsyncContextManager[asyncio.Event]]


class Relay:
    """Publishes one service's facts. Two at once do no harm but double work; `alone` sees to it that there is one."""

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        alone: Alone,
        publisher: type[Publisher] = Publisher,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Take plain parts; `alone()` waits until this process may work, and tells when it may no more."""
        self._store = store
        self._cluster = cluster
        self._alone = alone
        self._publisher = publisher
        self._telemetry = telemetry or Telemetry()
        self._channel = cluster.relay_channel(store.service)
        self._at = Checkpoint(FOLLOWER, self._channel, 0, b"")
        self._read: Notification | None = None
        self._away = False
        self._acked = self._at
        self._told = self._saved = 0.0
        self._in_flight: deque[tuple[Checkpoint, list[Delivery], int]] = deque()

    async def run(self) -> None:
        """Publish for ever; waits out brokers and databases that are away. Raises StoreRewound, PartitionsDiffer."""
        while True:
            try:
                async with self._alone() as lost:
                    await _until(lost, self.publish())
            except (StoreUnavailable, CheckpointMoved) as error:
                if not self._away:  # said once: it is tried every second
                    _LOG.warning("relay of %s waits: %s", self._store.service, error)
                self._away = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def publish(self) -> None:
        """Publish until something fails. Raises StoreUnavailable, StoreRewound, PartitionsDiffer, CheckpointMoved."""
        await ensure_topics(self._cluster, [self._store.service])
        ends = await last_records(self._cluster, self._store.service)
        await self._verify([(end.position, end.record_hash) for end in ends.values()])
        publisher = self._publisher(self._cluster, self._store.service, ends)
        self._in_flight.clear()
        self._read, self._acked = None, self._at
        here = await self._place(min(self._at.position, publisher.everywhere))
        async with translated(self._cluster):
            try:
                await publisher.start()
                if self._away:
                    _LOG.warning("relay of %s goes on after position %d", self._store.service, here.position)
                self._away = False
                await self._follow(publisher, here)
            finally:
                await publisher.close()

    async def _verify(self, ends: Sequence[tuple[int, bytes]]) -> None:
        standing = await self._store.checkpoints(FOLLOWER)
        self._at = standing.get(self._channel, Checkpoint(FOLLOWER, self._channel, 0, b""))
        for position, record_hash in ((self._at.position, self._at.record_hash), *ends):
            await verify_checkpoint(self._store, Checkpoint(FOLLOWER, self._store.service, position, record_hash))

    async def _place(self, position: int) -> Checkpoint:
        page = await self._store.read(position - 1, 1) if position else ()
        return _at(self._channel, page[0]) if page else Checkpoint(FOLLOWER, self._channel, 0, b"")

    async def _follow(self, publisher: Publisher, here: Checkpoint) -> None:
        while True:
            page = await read_on(self._store, here)
            if page:
                self._read, here = page[-1], _at(self._channel, page[-1])
                self._in_flight.append((here, await self._send(publisher, page), len(page)))
            while self._in_flight and (not page or len(self._in_flight) >= PAGES_IN_FLIGHT):
                await self._acknowledged()
            await self._keep()
            await self._tell(publisher, here)
            if not page:
                await self._store.wait(here.position, self._patience(publisher))

    async def _send(self, publisher: Publisher, page: Sequence[Notification]) -> list[Delivery]:
        tracer = self._telemetry.tracer
        if not tracer.active:
            return await publisher.facts(page)
        service = self._store.service
        traces = await self._telemetry.notes.noted(service, page[0].id - 1, page[-1].id)
        with tracer.span(f"relay {service}", distinct(traces.values()), facts=len(page)):
            return await publisher.facts(page, traces)

    async def _acknowledged(self) -> None:
        """Wait for the oldest page's deliveries. Raises KafkaError for one that failed."""
        here, deliveries, facts = self._in_flight[0]
        await asyncio.gather(*deliveries)
        self._in_flight.popleft()
        self._telemetry.meter.count("commons_relay_facts", facts, self._store.service)
        if here.position > self._acked.position:
            self._acked = here

    async def _keep(self) -> None:
        """Keep the position the brokers have acknowledged, every now and then: the topic itself knows it better."""
        if self._acked.position > self._at.position and time.monotonic() >= self._saved + KEEP_SECONDS:
            await self._store.move([Move(self._at.position, self._acked)])
            self._at, self._saved = self._acked, time.monotonic()

    async def _tell(self, publisher: Publisher, here: Checkpoint) -> None:
        behind = publisher.everywhere < here.position
        if self._read is not None and behind and time.monotonic() >= self._told + WATERMARK_SECONDS:
            self._in_flight.append((here, await publisher.watermarks(self._read, here.record_hash), 0))
            self._told = time.monotonic()

    def _patience(self, publisher: Publisher) -> float:
        """How long to wait for the next fact: until a delivery, a watermark or the checkpoint is to be looked after."""
        due = [time.monotonic() + _IDLE_SECONDS]
        if self._in_flight:
            return 0.0
        if self._read is not None and publisher.everywhere < self._read.id:
            due.append(self._told + WATERMARK_SECONDS)
        if self._acked.position > self._at.position:
            due.append(self._saved + KEEP_SECONDS)
        return max(min(due) - time.monotonic(), 0.0)


def _at(channel: str, record: Notification) -> Checkpoint:
    return Checkpoint(FOLLOWER, channel, record.id, hashlib.sha256(record.state).digest())


async def _until(lost: asyncio.Event, work: Awaitable[None]) -> None:
    """Work until it fails, or until `lost` is set."""
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait([working, losing], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)

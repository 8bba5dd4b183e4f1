"""A follower's membership in its consumer group: who has which partitions, and where each of them goes on.

Kafka shares out partitions and remembers nothing else: no offset is ever committed there. Where to go on stands in
the follower's own checkpoints, read after every assignment, and compared with the store. The offset of a position is
found by time: recorded time never decreases along positions, so no fact after a checkpoint's record can be older than
it. What comes before it in the partition, or a second time, is told by its position and passed over.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor  # type: ignore[import-untyped]

from events.store import PAGE, Checkpoint, Store, StoreRewound
from infra.kafka.records import recorded_ms
from infra.kafka.topics import Cluster, ended, translated
from infra.kafka.uncollected import uncollected_steps

FETCH_BYTES: Final = 8_000_000
"""What one follower holds of what the brokers sent, about."""
PARTITION_BYTES: Final = 4_000_000
"""What one partition gives at once: about a page of facts, for a page is what a view writes in one transaction."""
HAND_OVER_SECONDS: Final = 5.0
"""How long partitions that go to another process wait for the page at hand to take effect."""
_LOG: Final = logging.getLogger(__name__)

Batch = tuple[TopicPartition, Sequence[Any]]


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """One consumer of a group. `placed` is told each partition with the follower's checkpoints after an assignment."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        assignor: type[AbstractPartitionAssignor],
        begin: Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]],
    ) -> None:
        """Call `begin` after each assignment; it returns the time (ms) each partition goes on at, 0: its beginning."""
        self._cluster = cluster
        self._group = group
        self._begin = begin
        self._consumer = AIOKafkaConsumer(
            **cluster.client,
            group_id=cluster.group(group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # never used to go on: nothing is delivered before a partition has its place
            partition_assignment_strategy=(assignor,),
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_wait_ms=200,
            request_timeout_ms=15_000,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
        )
        self._error: BaseException | None = None
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.placed: set[TopicPartition] = set()

    async def start(self, topics: Sequence[str]) -> None:
        """Join the group. Raises StoreUnavailable."""
        try:
            async with translated(self._cluster):
                self._consumer.subscribe(topics, listener=self)
                await self._consumer.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the group."""
        self._at_rest.set()
        await ended(self._consumer.stop())

    def rests(self, *, now: bool) -> None:
        """Tell whether no page is under way: then partitions may be handed over."""
        if now:
            self._at_rest.set()
        else:
            self._at_rest.clear()

    async def batches(self, seconds: float) -> Sequence[Batch]:
        """Return what came, by partition. Raises StoreUnavailable, and what `begin` raised."""
        if self._error is not None:
            raise self._error
        async with translated(self._cluster):
            came = await uncollected_steps(self._consumer.getmany(timeout_ms=int(seconds * 1_000), max_records=PAGE))
        if self._error is not None:
            raise self._error
        return [(partition, records) for partition, records in came.items() if partition in self.placed]

    async def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        """Wait until the page at hand has taken effect, so that who comes next begins after it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._at_rest.wait(), HAND_OVER_SECONDS)
        self.placed.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go to the place of each partition. What fails is raised by the next `batches`."""
        try:
            mine = sorted(assigned)
            times = await self._begin(mine)
            async with translated(self._cluster):
                await self._seek(mine, times)
            self.placed = set(mine)
            _LOG.info("%s has %d partitions", self._group, len(mine))
        except Exception as error:  # noqa: BLE001 - the client library would only log it
            self._error = error

    async def _seek(self, mine: Sequence[TopicPartition], times: Mapping[TopicPartition, int]) -> None:
        if not mine:
            return
        begins = await self._consumer.beginning_offsets(mine)
        ends = await self._consumer.end_offsets(mine)  # asked first: what comes meanwhile lies behind them
        found = await self._consumer.offsets_for_times({each: times[each] for each in mine if times[each]})
        for each in mine:
            at = found.get(each)
            self._consumer.seek(each, begins[each] if not times[each] else at.offset if at else ends[each])

    async def left(self) -> Mapping[TopicPartition, int]:
        """Return how many records each partition still holds beyond what was fetched."""
        async with translated(self._cluster):
            mine = sorted(self.placed)
            ends = await self._consumer.end_offsets(mine) if mine else {}
            return {each: max(ends[each] - await self._consumer.position(each), 0) for each in mine}

    def hold(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch only from partitions that are not among these."""
        wanted = set(partitions) & self.placed
        paused = self._consumer.paused()
        if fresh := wanted - paused:
            self._consumer.pause(*fresh)
        if over := (paused & self.placed) - wanted:
            self._consumer.resume(*over)


async def time_of(store: Store, checkpoint: Checkpoint) -> int:
    """Return the recorded time (ms) of the record a checkpoint names, 0 for none. Raises StoreRewound."""
    if not checkpoint.position:
        return 0
    found = await store.read(checkpoint.position - 1, 1)
    digest = hashlib.sha256(found[0].state).digest() if found and found[0].id == checkpoint.position else b""
    if digest != checkpoint.record_hash:
        raise StoreRewound(checkpoint, digest)
    return recorded_ms(found[0].state)

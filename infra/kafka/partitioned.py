"""A subscription that shares partitions with its follower's other processes; order holds within a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.roundrobin import (  # type: ignore[import-untyped]
    RoundRobinPartitionAssignor,
)
from eventsourcing.persistence import Notification

from events.bus import ChannelGap, Follower, Page
from events.store import Checkpoint, Store
from infra.kafka.membership import Batch, Membership, time_of
from infra.kafka.records import read
from infra.kafka.topics import Cluster
from infra.kafka.uncollected import uncollected


@dataclass(slots=True)
class _Place:
    """Where one partition stands: its channel, the checkpoint saved (0: none), and what has been reached."""

    channel: str
    before: int
    reached: int


class PartitionedSubscription:
    """Some partitions of some services, as the group shares them out."""

    def __init__(self, cluster: Cluster, follower: Follower, stores: Mapping[str, Store]) -> None:
        """Compare checkpoints with `stores`, by service."""
        self._cluster = cluster
        self._follower = follower
        self._stores = stores
        self._services = {cluster.topic(service): service for service in follower.services}
        self._member = Membership(cluster, follower.name, RoundRobinPartitionAssignor, self._begin)
        self._places: dict[TopicPartition, _Place] = {}
        self._waiting: deque[Batch] = deque()

    async def start(self) -> None:
        """Join the group. Raises StoreUnavailable."""
        await self._member.start(list(self._services))

    async def close(self) -> None:
        """Leave the group, so that others get the partitions at once."""
        await self._member.close()

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page; partitions on which only time went by are told beside the next one that has facts."""
        self._member.rests(now=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while (page := self._next()) is None:
            left = deadline - loop.time()
            if left <= 0:
                return None
            self._waiting.extend(await self._member.batches(left))
        self._member.rests(now=False)
        return page

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each of this process's channels still holds, watermarks counted."""
        left = await self._member.left()
        for partition, records in self._waiting:
            if partition in left:
                left = {**left, partition: left[partition] + len(records)}
        return {self._places[partition].channel: count for partition, count in left.items()}

    async def _begin(self, assigned: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Place the partitions at the follower's checkpoints; a new channel starts where its service's stands."""
        start = await self._follower.checkpoints()
        places: dict[TopicPartition, _Place] = {}
        times: dict[TopicPartition, int] = {}
        for partition in assigned:
            service = self._services[partition.topic]
            channel = self._cluster.channel(service, partition.partition)
            own = start.get(channel)
            at = own or start.get(service) or Checkpoint(self._follower.name, channel, 0, b"")
            times[partition] = await time_of(self._stores[service], at)
            places[partition] = _Place(channel, own.position if own else 0, at.position)
        self._waiting.clear()
        self._places = places
        return times

    def _next(self) -> Page | None:
        """Return the next page of what waits: the first with facts, and with it all that have none."""
        quiet: dict[str, Page] = {}
        page: Page | None = None
        while self._waiting and (page is None or not page.records):
            partition, records = self._waiting.popleft()
            place = self._places.get(partition) if partition in self._member.placed else None
            page = self._page(place, records) if place is not None else None
            if page is not None and not page.records:
                earlier = quiet.get(page.channel)
                quiet[page.channel] = replace(page, before=earlier.before) if earlier else page
        if page is not None and page.records:
            same = quiet.pop(page.channel, None)
            return replace(page, before=same.before if same else page.before, quiet=tuple(quiet.values()))
        first, *others = quiet.values() or (None,)
        return replace(first, quiet=tuple(others)) if first else None

    @uncollected()
    def _page(self, place: _Place, records: Sequence[object]) -> Page | None:
        """Return what is new of a batch. Raises ChannelGap."""
        facts: list[Notification] = []
        traces: dict[int, str] = {}
        reached, mark = place.reached, b""
        for record in records:
            came = read(record)
            if came.position <= reached:
                continue  # the relay sent it twice, or it stands before the checkpoint
            if came.previous > reached:
                raise ChannelGap(self._follower.name, place.channel, came.previous, reached)
            reached = came.position
            mark = came.mark
            if came.fact is not None:
                facts.append(came.fact)
                if came.traceparent:
                    traces[came.position] = came.traceparent
        if reached == place.reached:
            return None
        page = Page(place.channel, place.before, reached, facts, mark, traces=traces)
        place.before = place.reached = reached
        return page

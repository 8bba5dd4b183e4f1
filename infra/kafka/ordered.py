"""A subscription that puts a service's partitions back into the order of positions; one process at a time has it.

Positions have no hole, so the next fact is always known, and no clock or watermark is needed: what comes early waits
until its turn. Partitions that run ahead are held, so that little waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.cluster import ClusterMetadata  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.roundrobin import (  # type: ignore[import-untyped]
    RoundRobinPartitionAssignor,
)
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment  # type: ignore[import-untyped]
from eventsourcing.persistence import Notification

from events.bus import ChannelGap, Follower, OtherBus, Page
from events.channels import service_of
from events.store import PAGE, Checkpoint, Store
from infra.kafka.membership import Membership, time_of
from infra.kafka.records import Came, read
from infra.kafka.topics import Cluster
from infra.kafka.uncollected import uncollected

AHEAD: Final = 2 * PAGE
"""How many positions a partition may run ahead of the next fact before it is held."""


class SoleAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Gives every partition to one member; the others stand by."""

    name = "sole"

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, object]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Choose the member with the lowest id, which stays the same while it lives."""
        chosen = min(members)
        alone = super().assign(cluster, {chosen: members[chosen]})
        nothing = ConsumerProtocolMemberAssignment(cls.version, [], b"")
        return {member: alone[chosen] if member == chosen else nothing for member in members}


class OrderedSubscription:
    """Whole services, each on one channel that bears its name, as on the tail."""

    def __init__(self, cluster: Cluster, follower: Follower, stores: Mapping[str, Store]) -> None:
        """Compare checkpoints with `stores`, by service."""
        self._follower = follower
        self._stores = stores
        self._services = {cluster.topic(service): service for service in follower.services}
        self._member = Membership(cluster, follower.name, SoleAssignor, self._begin)
        self._reached: dict[str, int] = {}
        self._seen: dict[TopicPartition, int] = {}
        self._early: dict[str, dict[int, Came]] = {}

    async def start(self) -> None:
        """Join the group. Raises StoreUnavailable."""
        await self._member.start(list(self._services))

    async def close(self) -> None:
        """Leave the group, so that a standby takes over at once."""
        await self._member.close()

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page of a service, as soon as the position after the last one has come."""
        self._member.rests(now=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while (page := self._next()) is None:
            left = deadline - loop.time()
            if left <= 0:
                return None
            self._member.hold(self._ahead())
            for partition, records in await self._member.batches(left):
                self._take(partition, records)
        self._member.rests(now=False)
        return page

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each service still holds, watermarks counted."""
        found = {service: len(early) for service, early in self._early.items()}
        for partition, count in (await self._member.left()).items():
            found[self._services[partition.topic]] += count
        return found

    async def _begin(self, assigned: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        start = await self._follower.checkpoints()
        reached: dict[str, int] = {}
        times: dict[str, int] = {}
        for channel in start:
            if channel not in self._services.values() and service_of(channel) in self._services.values():
                raise OtherBus(f"{self._follower.name} has followed {channel}: it cannot go on in order of positions")
        for service in self._services.values():
            at = start.get(service) or Checkpoint(self._follower.name, service, 0, b"")
            times[service] = await time_of(self._stores[service], at)
            reached[service] = at.position
        self._reached, self._early = reached, {service: {} for service in reached}
        self._seen = {partition: reached[self._services[partition.topic]] for partition in assigned}
        return {partition: times[self._services[partition.topic]] for partition in assigned}

    @uncollected()
    def _take(self, partition: TopicPartition, records: Iterable[object]) -> None:
        """Put what is new to what waits for its turn. Raises ChannelGap."""
        service, seen = self._services[partition.topic], self._seen[partition]
        for record in records:
            came = read(record)
            if came.position <= seen:
                continue
            if came.previous > seen:
                raise ChannelGap(self._follower.name, f"{partition.topic}/{partition.partition}", came.previous, seen)
            seen = came.position
            if came.fact is not None:
                self._early[service][came.position] = came
        self._seen[partition] = seen

    def _next(self) -> Page | None:
        if not self._member.placed:
            return None  # what waits is another process's turn now
        for service, early in self._early.items():
            before = position = self._reached[service]
            records: list[Notification] = []
            traces: dict[int, str] = {}
            while len(records) < PAGE and (came := early.pop(position + 1, None)) is not None and came.fact:
                records.append(came.fact)
                position += 1
                if came.traceparent:
                    traces[position] = came.traceparent
            if records:
                self._reached[service] = position
                self._early[service] = self._early.pop(service)  # so that one busy service does not starve the others
                return Page(service, before, position, records, traces=traces)
        return None

    def _ahead(self) -> list[TopicPartition]:
        return [
            partition
            for partition, seen in self._seen.items()
            if seen > self._reached[self._services[partition.topic]] + AHEAD
        ]

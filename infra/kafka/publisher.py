"""Puts facts and watermarks into the partitions of one topic, in order, and tells when the brokers have them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from eventsourcing.persistence import Notification

from events.channels import partition_of
from infra.kafka.records import Came, Headers, fact_headers, recorded_ms, watermark
from infra.kafka.topics import Cluster, ended

BATCH_BYTES: Final = 512 * 1024
"""A batch of one partition; half of what a broker takes by default, so the largest fact always fits."""
REQUEST_SECONDS: Final = 15
"""How long one delivery is tried again before it counts as failed."""

_UNTRACED: Final[Mapping[int, str]] = {}

Delivery = asyncio.Future[Any]


class Publisher:
    """One idempotent producer with what it has sent where. Any failed delivery ends its life: make a new one."""

    def __init__(self, cluster: Cluster, service: str, ends: Mapping[int, Came]) -> None:
        """Go on after `ends`, the last record of each partition that has one."""
        self._topic = cluster.topic(service)
        self._count = cluster.partitions
        self._producer = AIOKafkaProducer(
            **cluster.client,
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_SECONDS * 1_000,
        )
        self._sent = dict.fromkeys(range(self._count), 0)
        self._reached = dict.fromkeys(range(self._count), 0)
        for number, end in ends.items():
            self._sent[number] = end.previous if end.fact is None else end.position
            self._reached[number] = end.position

    @property
    def everywhere(self) -> int:
        """The position up to which every partition has what belongs into it, as far as its last record tells."""
        return min(self._reached.values())

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._producer.start()

    async def close(self) -> None:
        """Send no more. What was not acknowledged may or may not arrive."""
        await ended(self._producer.stop())

    async def facts(self, page: Sequence[Notification], traces: Mapping[int, str] = _UNTRACED) -> list[Delivery]:
        """Send facts in the order of their positions; those a partition already ends with or after are left out.

        `traces` are the traceparents of some of them, by position.
        """
        deliveries: list[Delivery] = []
        open_batches: dict[int, Any] = {}
        for record in page:
            stream = str(record.originator_id)
            number = partition_of(stream, self._count)
            if record.id <= self._sent[number]:
                continue
            headers = fact_headers(record, self._sent[number], traces.get(record.id, ""))
            milliseconds = recorded_ms(record.state)
            batch = open_batches.get(number)
            if batch is None or not _put(batch, stream.encode(), record.state, milliseconds, headers):
                if batch is not None:
                    deliveries.append(await self.deliver(batch, number))
                batch = open_batches[number] = self._producer.create_batch()
                fits = _put(batch, stream.encode(), record.state, milliseconds, headers)
                assert fits, "a batch holds the largest fact"
            self._sent[number] = self._reached[number] = record.id
        for number, batch in open_batches.items():
            deliveries.append(await self.deliver(batch, number))
        return deliveries

    async def watermarks(self, last: Notification, record_hash: bytes) -> list[Delivery]:
        """Tell every partition that has not come so far that it has, up to the fact `last`."""
        deliveries: list[Delivery] = []
        milliseconds = recorded_ms(last.state)
        for number, reached in self._reached.items():
            if reached < last.id:
                value, headers = watermark(last.id, record_hash, self._sent[number])
                batch = self._producer.create_batch()
                _put(batch, None, value, milliseconds, headers)
                deliveries.append(await self.deliver(batch, number))
                self._reached[number] = last.id
        return deliveries

    async def deliver(self, batch: Any, number: int) -> Delivery:
        """Hand a full batch to the producer; waits while another of its partition waits there."""
        batch.close()
        delivery: Delivery = await self._producer.send_batch(batch, self._topic, partition=number)
        return delivery


def _put(batch: Any, key: bytes | None, value: bytes, milliseconds: int, headers: Headers) -> bool:
    return batch.append(key=key, value=value, timestamp=milliseconds, headers=headers) is not None

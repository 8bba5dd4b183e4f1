"""Where the partitions of a topic end: read off their last records, which know all that a relay has to remember."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]

from infra.kafka.records import Came, read
from infra.kafka.topics import Cluster, ended, translated

_TIMEOUT_MS = 10_000


async def last_records(cluster: Cluster, service: str) -> dict[int, Came]:
    """Return the last record of every partition that has one. Raises StoreUnavailable."""
    topic = cluster.topic(service)
    async with translated(cluster):
        consumer = AIOKafkaConsumer(**cluster.client, enable_auto_commit=False, request_timeout_ms=_TIMEOUT_MS)
        try:
            await consumer.start()
            partitions = [TopicPartition(topic, number) for number in range(cluster.partitions)]
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
            filled = [each for each in partitions if ends[each] > begins[each]]
            if not filled:
                return {}
            consumer.assign(filled)
            for each in filled:
                consumer.seek(each, ends[each] - 1)
            return await _first_of_each(consumer, filled)
        finally:
            await ended(consumer.stop())


async def _first_of_each(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[int, Came]:
    found: dict[int, Came] = {}
    waiting = set(partitions)
    while waiting:
        batches = await consumer.getmany(*waiting, timeout_ms=_TIMEOUT_MS)
        if not batches:
            raise TimeoutError(f"the last records of {len(waiting)} partitions did not come")
        for partition, records in batches.items():
            found[partition.partition] = read(records[-1])
            waiting.discard(partition)
    return found

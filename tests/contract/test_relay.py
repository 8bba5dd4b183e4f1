"""What the relay puts into topics, and how it goes on after it was cut off."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from eventsourcing.persistence import StoredEvent

from events.store import StoreRewound
from infra.kafka.bus import KafkaBus
from infra.kafka.records import FACT, WATERMARK
from infra.kafka.relay import FOLLOWER, Relay
from infra.kafka.topics import Cluster, PartitionsDiffer
from infra.memory import MemoryStore
from tests.followers import follower
from tests.history import seal
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.relaying import nobody_else, relaying

TIME_US = 1_760_000_000_000_000
SECONDS = 30


@pytest.fixture(autouse=True)
def _real(kafka: KafkaSource) -> None:
    skip_unless_real(kafka)


async def store_of(count: int, streams: int = 5, text: bytes = b"x") -> MemoryStore:
    store = MemoryStore("left", clock=lambda: TIME_US)
    await append(store, count, streams, text)
    return store


async def append(store: MemoryStore, count: int, streams: int = 5, text: bytes = b"x") -> None:
    async with store.session() as session:
        first = session.head.position
        numbers = range(first, first + count)
        await session.append(
            [
                StoredEvent(f"node/{n % streams}", n // streams + 1, "left.topic.v1", b'{"n":"%s"' % text)
                for n in numbers
            ],
            seal=seal,
        )


async def everything(cluster: Cluster, service: str = "left") -> list[Any]:
    """All records of a topic, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(cluster.topic(service), number) for number in range(cluster.partitions)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        found: list[Any] = []
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


def facts(records: Sequence[Any]) -> list[int]:
    """The positions of the facts among records, sorted."""
    return sorted(int(dict(each.headers)["position"]) for each in records if dict(each.headers)["content-type"] == FACT)


async def relayed(store: MemoryStore, cluster: Cluster) -> None:
    """Run a relay until it has told that everything is acknowledged."""
    channel = f"kafka/{cluster.topic(store.service)}/{cluster.generation}"
    head = (await store.head()).position
    async with relaying([store], cluster), asyncio.timeout(SECONDS):
        while (at := (await store.checkpoints(FOLLOWER)).get(channel)) is None or at.position < head:
            await asyncio.sleep(0.02)


async def test_a_record_is_the_stores_bytes_in_the_partition_of_its_stream(cluster: Cluster) -> None:
    store = await store_of(40)
    await relayed(store, cluster)
    records = [each for each in await everything(cluster) if dict(each.headers)["content-type"] == FACT]
    kept = {record.id: record for record in await store.read(0)}
    last: dict[int, int] = {}
    for record in records:
        headers = dict(record.headers)
        fact = kept.pop(int(headers["position"]))
        assert record.value == fact.state
        assert record.key.decode() == fact.originator_id
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % cluster.partitions
        assert record.timestamp == TIME_US // 1_000
        assert (headers["type"].decode(), int(headers["streamversion"])) == (fact.topic, fact.originator_version)
        assert int(headers["previous"]) == last.get(record.partition, 0)
        last[record.partition] = fact.id
    assert kept == {}


async def test_idle_partitions_hold_a_watermark_with_the_hash_of_the_last_fact(cluster: Cluster) -> None:
    store = await store_of(3, streams=1)
    await relayed(store, cluster)
    await asyncio.sleep(0.3)
    marks = [each for each in await everything(cluster) if dict(each.headers)["content-type"] == WATERMARK]
    assert {int(dict(each.headers)["position"]) for each in marks} == {3}
    assert len(marks) == cluster.partitions - 1
    digest = hashlib.sha256((await store.read(2))[0].state).hexdigest()
    assert {each.value for each in marks} == {f'{{"position":"3","sha256":"{digest}"}}'.encode()}
    assert {each.key for each in marks} == {None}


async def test_a_relay_that_begins_anew_sends_nothing_a_second_time(cluster: Cluster) -> None:
    store = await store_of(50)
    for _ in range(3):
        await relayed(store, cluster)
        await append(store, 50)
    await relayed(store, cluster)
    assert facts(await everything(cluster)) == list(range(1, 201))


async def test_a_relay_that_was_cut_off_in_the_middle_goes_on_without_a_hole(cluster: Cluster) -> None:
    store = await store_of(20_000, text=b"y" * 300)
    for milliseconds in (150, 200, 300, 500):
        relay = asyncio.create_task(Relay(store, cluster, nobody_else).run())
        await asyncio.sleep(milliseconds / 1_000)
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
    await relayed(store, cluster)
    assert set(facts(await everything(cluster))) == set(range(1, 20_001))


async def test_a_topic_that_was_deleted_is_filled_again(cluster: Cluster) -> None:
    store = await store_of(100)
    await relayed(store, cluster)
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    await admin.delete_topics([cluster.topic("left")])
    await admin.close()
    await asyncio.sleep(0.5)
    async with relaying([store], cluster), asyncio.timeout(SECONDS):
        while facts(await everything(cluster)) != list(range(1, 101)):
            await asyncio.sleep(0.1)


async def test_a_store_restored_from_an_older_backup_stops_the_relay(cluster: Cluster) -> None:
    await relayed(await store_of(30), cluster)
    for restored in (await store_of(20), await store_of(30, text=b"another")):
        with pytest.raises(StoreRewound):
            await asyncio.wait_for(Relay(restored, cluster, nobody_else).run(), SECONDS)


async def test_a_topic_with_another_number_of_partitions_is_refused_by_all_who_use_it(cluster: Cluster) -> None:
    store = await store_of(10)
    await relayed(store, cluster)
    more = replace(cluster, partitions=cluster.partitions + 1)
    with pytest.raises(PartitionsDiffer, match="has 6 partitions, 7 are configured"):
        await asyncio.wait_for(Relay(store, more, nobody_else).run(), SECONDS)
    with pytest.raises(PartitionsDiffer):
        await KafkaBus(more, {"left": store}).subscribe(follower(["left"]))


async def test_another_number_of_partitions_is_another_generation(cluster: Cluster) -> None:
    store = await store_of(50)
    await relayed(store, cluster)
    second = replace(cluster, partitions=3, generation=2)
    await relayed(store, second)
    assert facts(await everything(second)) == facts(await everything(cluster)) == list(range(1, 51))

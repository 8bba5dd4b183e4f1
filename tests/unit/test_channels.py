"""Channels: what their names say, how far a follower on partitions is, and which partition a stream has."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from events.channels import (
    Share,
    murmur2,
    partition_channel,
    partition_of,
    positions_by_service,
    service_of,
    share_of,
)
from events.store import Checkpoint

JAVA = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def at(**positions: int) -> dict[str, Checkpoint]:
    """Checkpoints by channel; `left_2` is the third of three partitions."""
    names = {f"left_{number}": partition_channel("left.events", 1, number, 3) for number in range(3)}
    return {names.get(name, name): Checkpoint("f", "", position, b"") for name, position in positions.items()}


@pytest.mark.parametrize(("data", "signed"), JAVA.items())
def test_the_hash_is_the_one_kafka_publishes(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


@given(stream=st.text(min_size=1), partitions=st.integers(1, 64))
def test_a_stream_lies_where_foreign_producers_would_put_it(stream: str, partitions: int) -> None:
    theirs = DefaultPartitioner()(stream.encode(), list(range(partitions)), list(range(partitions)))
    assert partition_of(stream, partitions) == theirs


@pytest.mark.parametrize("topic", ["ethics_review.events", "a-b.x.ethics_review.events", "ethics_review.events.g3"])
def test_a_channel_tells_its_service_and_its_share(topic: str) -> None:
    channel = partition_channel(topic, 3, 4, 6)
    assert share_of(channel) == Share("ethics_review", 4, 6)
    assert service_of(channel) == "ethics_review"
    assert (share_of("treasury"), service_of("treasury")) == (None, "treasury")


def test_a_service_is_reached_as_far_as_its_slowest_partition() -> None:
    assert positions_by_service(at(left_0=7, left_1=5, left_2=9, right=3)) == {"left": 5, "right": 3}


def test_a_partition_without_a_checkpoint_stands_where_its_service_began() -> None:
    assert positions_by_service(at(left_0=7, left_1=8)) == {"left": 0}
    assert positions_by_service(at(left=4, left_0=7, left_1=8)) == {"left": 4}

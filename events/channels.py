"""The names of channels, and what they say: whose facts they carry, and which share of them.

A service's own name is its channel with all facts in the order of their positions: the tail, and what in-order
followers get on Kafka. `kafka/<topic>/<generation>/<partition>-of-<count>` is one partition of a topic. Offsets are
positions on all of them, so a checkpoint can be compared with the store whichever way its record came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from events.store import Checkpoint

_PARTITION: Final = re.compile(
    r"kafka/(?P<topic>(?:[\w.-]+\.)?(?P<service>[a-z_]+)\.events(?:\.g\d+)?)/"
    r"(?P<generation>\d+)/(?P<partition>\d+)-of-(?P<count>\d+)"
)
_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_U32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Share:
    """A partition's share of a service's facts: those of the streams that `partition_of` gives it."""

    service: str
    partition: int
    count: int


def partition_channel(topic: str, generation: int, partition: int, count: int) -> str:
    """Return the name of one partition's channel."""
    return f"kafka/{topic}/{generation}/{partition}-of-{count}"


@lru_cache(maxsize=1_024)
def share_of(channel: str) -> Share | None:
    """Return what a partition's channel carries, None for the channel of a whole service."""
    found = _PARTITION.fullmatch(channel)
    return Share(found["service"], int(found["partition"]), int(found["count"])) if found else None


def service_of(channel: str) -> str:
    """Return the service whose facts a channel carries."""
    share = share_of(channel)
    return share.service if share is not None else channel


def positions_by_service(checkpoints: Mapping[str, Checkpoint]) -> dict[str, int]:
    """Return by service the position up to which a follower has seen everything.

    On partitions that is the lowest of them; one without a checkpoint stands where the service's own does, which is
    where the follower began.
    """
    positions = {channel: at.position for channel, at in checkpoints.items() if share_of(channel) is None}
    reached: dict[str, dict[int, int]] = {}
    counts: dict[str, int] = {}
    for channel, at in checkpoints.items():
        share = share_of(channel)
        if share is not None:
            reached.setdefault(share.service, {})[share.partition] = at.position
            counts[share.service] = share.count
    for service, places in reached.items():
        begun = positions.get(service, 0)
        positions[service] = min(places.get(partition, begun) for partition in range(counts[service]))
    return positions


@lru_cache(maxsize=65_536)
def partition_of(stream: str, partitions: int) -> int:
    """Return the partition of a stream: murmur2 of its UTF-8 bytes, sign bit off, modulo the number of partitions.

    This is what Kafka's own clients do with a key, so producers and consumers of others agree with it; it is ours,
    so that no other default of a library can ever move a stream to another partition.
    """
    return (murmur2(stream.encode()) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return the 32-bit MurmurHash2 with the seed of Kafka (org.apache.kafka.common.utils.Utils.murmur2), unsigned."""
    whole = len(data) & ~3
    h = _SEED ^ len(data)
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _U32
        k = (k ^ k >> 24) * _M & _U32
        h = h * _M & _U32 ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _U32
    h = (h ^ h >> 13) * _M & _U32
    return h ^ h >> 15

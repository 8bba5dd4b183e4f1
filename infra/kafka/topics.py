"""Topics: their names, how they are made, and the refusal of one whose partitions are not as configured.

A stream's partition depends on their number, so it is fixed when a topic is made. Who wants another number raises
the generation: a new topic, filled by the relay from the first fact on, and views rebuilt onto its channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code  # type: ignore[import-untyped]

from events.channels import partition_channel
from events.store import StoreError, StoreUnavailable
from infra.kafka.security import PLAIN, Security

_LEADER_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 3.0
_FOREVER: Final = "-1"


class BrokersAway(StoreUnavailable):
    """No broker answers, or none that has what is asked for."""


class PartitionsDiffer(StoreError):
    """A topic has another number of partitions than configured: streams would change their partition."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the brokers are, and what topics look like there.

    `prefix` begins the names of all topics and groups of a community that shares its cluster with others.
    """

    bootstrap: str
    partitions: int = 6
    replication: int = 1
    generation: int = 1
    prefix: str = ""
    security: Security = PLAIN

    @property
    def client(self) -> dict[str, Any]:
        """What every client of these brokers is made with."""
        return {"bootstrap_servers": self.bootstrap, **self.security.client}

    def topic(self, service: str) -> str:
        """Return the name of the topic of a service's facts."""
        later = f".g{self.generation}" if self.generation > 1 else ""
        return f"{self.prefix}{service}.events{later}"

    def channel(self, service: str, partition: int) -> str:
        """Return the name of the channel of one partition."""
        return partition_channel(self.topic(service), self.generation, partition, self.partitions)

    def relay_channel(self, service: str) -> str:
        """Return the name of the channel a service's relay keeps its place on."""
        return f"kafka/{self.topic(service)}/{self.generation}"

    def group(self, follower: str) -> str:
        """Return the name of the consumer group that shares out the channels of a follower."""
        later = f".g{self.generation}" if self.generation > 1 else ""
        return f"{self.prefix}{follower}{later}"

    def configs(self) -> dict[str, str]:
        """Return what a topic is made with: nothing ever expires, and a fact's recorded time is taken as it is."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": _FOREVER,
            "retention.bytes": _FOREVER,
            "message.timestamp.type": "CreateTime",
            "message.timestamp.after.max.ms": str(2**63 - 1),
            "min.insync.replicas": str(max(1, self.replication - 1)),
            "unclean.leader.election.enable": "false",
        }


@asynccontextmanager
async def translated(cluster: Cluster) -> AsyncIterator[None]:
    """Raise BrokersAway for whatever a broker that is away makes the client raise."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokersAway(f"Kafka at {cluster.bootstrap}: {type(error).__name__} {error}".rstrip()) from error


async def ended(stopping: Coroutine[Any, Any, None]) -> None:
    """Wait a moment for a client to stop.

    One whose brokers are away goes on with it by itself until its requests time out: cut off in the middle it would
    leave tasks and connections behind for ever.
    """
    task = asyncio.ensure_future(stopping)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, so nothing is reported
    await asyncio.wait([task], timeout=_STOP_SECONDS)


async def ensure_topics(cluster: Cluster, services: Sequence[str]) -> None:
    """Make the topics that are missing; return once every partition has a leader.

    Raises PartitionsDiffer, and StoreUnavailable when the cluster is away or has too few brokers.
    """
    async with translated(cluster):
        admin = AIOKafkaAdminClient(**cluster.client, request_timeout_ms=10_000)
        try:
            await admin.start()
            wanted = {cluster.topic(service) for service in services}
            async with asyncio.timeout(_LEADER_SECONDS):
                while not await _ready(cluster, admin, wanted):  # noqa: ASYNC110 - brokers tell nobody
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await admin.close()


async def _ready(cluster: Cluster, admin: AIOKafkaAdminClient, wanted: set[str]) -> bool:
    # All topics are asked for: brokers may make a topic that is asked for by name, with partitions of their own choice.
    every = await admin.describe_topics()
    there = {each["topic"]: each for each in every if each["topic"] in wanted and not each["error_code"]}
    for name, topic in there.items():
        if len(topic["partitions"]) != cluster.partitions:
            raise PartitionsDiffer(
                f"topic {name} has {len(topic['partitions'])} partitions, {cluster.partitions} are configured: set "
                f"them back, or raise the generation and rebuild the views"
            )
    missing = sorted(wanted - set(there))
    if missing:
        await _create(cluster, admin, missing)
        return False
    return all(part["leader"] >= 0 for topic in there.values() for part in topic["partitions"])


async def _create(cluster: Cluster, admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    made = [NewTopic(name, cluster.partitions, cluster.replication, topic_configs=cluster.configs()) for name in names]
    answer = (await admin.create_topics(made, timeout_ms=10_000)).to_object()
    for topic in answer["topic_errors"]:
        error = for_code(topic["error_code"])
        if topic["error_code"] and error is not TopicAlreadyExistsError:
            raise error(f"{topic['topic']}: {topic.get('error_message')}")

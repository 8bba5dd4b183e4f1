"""Where tests get Kafka from: what is given, a container, a native broker, or at last a mock; in this order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra.kafka.broker import NativeKafka, free_ports
from infra.kafka.classpath import NoNativeKafka
from infra.kafka.topics import Cluster

IMAGE = "apache/kafka:4.3.1"
MOCK_PARTITIONS = 4


@dataclass(frozen=True)
class KafkaSource:
    """A broker for the tests, and what it is. `real` is False for the mock, which knows no admin requests."""

    bootstrap: str
    told: str
    real: bool = True

    def cluster(self) -> Cluster:
        """Return topics and groups of one test's own."""
        partitions = 6 if self.real else MOCK_PARTITIONS
        cluster = Cluster(self.bootstrap, partitions, prefix=f"t{uuid4().hex[:12]}.")
        if not self.real:
            from confluent_kafka import Producer  # noqa: PLC0415 - only where nothing real can be had

            asking = Producer({"bootstrap.servers": self.bootstrap})
            for service in ("left", "right", "registry", "metering", "treasury"):
                asking.list_topics(cluster.topic(service), timeout=10)  # the mock makes what is asked for
        return cluster


@contextmanager
def kafka_source(folder: Path) -> Iterator[KafkaSource]:
    """Yield the first that can be had. Where none is real it is the mock, and under CI a failure."""
    given = os.environ.get("COMMONS_TEST_KAFKA")
    if given:
        yield KafkaSource(given, f"Kafka at {given}, given by COMMONS_TEST_KAFKA")
    elif (docker := reachable_docker()) is not None:
        with container(docker) as source:
            yield source
    else:
        try:
            native = NativeKafka(folder)
        except NoNativeKafka as missing:
            if "CI" in os.environ:
                raise  # there the protocol is tested against the real thing or not at all
            with mocked(str(missing)) as source:
                yield source
            return
        try:
            yield KafkaSource(native.start(), "Apache Kafka 4, a native broker from the Maven artifacts")
        finally:
            native.stop()


def reachable_docker() -> Any:
    """Return a client of the Docker engine, None where none answers."""
    import docker  # noqa: PLC0415 - testcontainers brings it

    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except docker.errors.DockerException:
        return None
    return client


@contextmanager
def container(_docker: Any) -> Iterator[KafkaSource]:
    """Run the official image on a port of this machine."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - only where Docker answers
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy  # noqa: PLC0415 - as above

    (port,) = free_ports(1)
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    made = DockerContainer(IMAGE).with_bind_ports(9092, port)
    made = made.waiting_for(LogMessageWaitStrategy("Kafka Server started"))
    for name, value in settings.items():
        made = made.with_env(name, value)
    with made:
        yield KafkaSource(f"127.0.0.1:{port}", f"{IMAGE} in a container")


@contextmanager
def mocked(missing: str) -> Iterator[KafkaSource]:
    """Run the broker that lives inside librdkafka: it speaks the protocol of producers and consumers."""
    from confluent_kafka import Producer  # noqa: PLC0415 - only where nothing real can be had

    holder = Producer({"test.mock.num.brokers": 1})
    (broker,) = holder.list_topics(timeout=10).brokers.values()
    yield KafkaSource(
        f"{broker.host}:{broker.port}", f"the MOCK broker of confluent-kafka, because {missing}", real=False
    )
    holder.flush(1)


def skip_unless_real(source: KafkaSource) -> None:
    """Leave out what a mock cannot answer."""
    if not source.real:
        pytest.skip(f"needs a real broker; there is {source.told}")

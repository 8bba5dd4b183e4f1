"""Policies on Kafka: in the order of positions, each cause once in effect, with standbys that take over."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from infra.kafka.bus import KafkaBus
from infra.kafka.topics import Cluster
from infra.memory import MemoryStore
from services.kernel.policies import PolicyRunner
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.memory_aside import MemoryAside
from tests.relaying import TwicePublisher, relaying
from tests.toy import Count, catalog, request, running, service

NAMES = 12
SECONDS = 40


@pytest.fixture(autouse=True)
def _real(kafka: KafkaSource) -> None:
    skip_unless_real(kafka)


async def test_effects_come_once_and_in_the_order_of_their_causes_while_runners_come_and_go(cluster: Cluster) -> None:
    source, target = MemoryStore("source"), MemoryStore("toy")
    async with AsyncExitStack() as stack:
        causes = await stack.enter_async_context(running(source, service("source")))
        effects = await stack.enter_async_context(running(target, service("toy", "source")))
        await stack.enter_async_context(relaying([source], cluster, TwicePublisher))
        bus = KafkaBus(cluster, {"source": source, "toy": target})
        policy = effects.service.policies[0]
        aside = MemoryAside(target)
        runners = [asyncio.create_task(PolicyRunner(policy, effects, bus, catalog(), aside).run()) for _ in range(3)]
        total = 0
        for _ in range(3):
            for number in range(total, total + 60):
                await causes.submit(request(Count(f"n{number % NAMES}"), str(number)))
            total += 60
            async with asyncio.timeout(SECONDS):
                while sum(effects.state.counts.values()) < total:
                    await asyncio.sleep(0.02)
            leaving = runners.pop(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        assert runners == []
        assert (await target.checkpoints("policy/toy.echo"))["source"].position == total
    caused = [catalog().decode(record.state).stream for record in await target.read(0)]
    assert caused == [f"count/echo-n{number % NAMES}" for number in range(total)]

"""Followers rest, go on and go back as they are ordered, in every process, along the stores and along Kafka."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from events.bus import Bus
from events.store import Checkpoint
from infra.kafka.bus import KafkaBus
from infra.kafka.topics import Cluster
from infra.obeying import ObeyingBus
from infra.postgres.aside import PostgresAside
from infra.postgres.orders import NotBehind, PostgresOrders, plain_name
from infra.postgres.pool import open_pool
from infra.postgres.store import open_stores
from infra.tail import TailBus
from services.kernel.appender import Appender
from services.kernel.policies import PolicyRunner
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.relaying import relaying
from tests.toy import Count, catalog, request, running, service

POLICY = "policy/toy.echo"
OBEYS_SECONDS = 3.0
"""Within this an order is obeyed."""


@dataclass
class Process:
    """One process's followers, with what it alone knows of orders."""

    bus: ObeyingBus
    runner: PolicyRunner


@dataclass
class World:
    causes: Appender[Any]
    effects: Appender[Any]
    processes: Sequence[Process]
    orders: PostgresOrders
    said: int = 0

    async def say(self, count: int) -> None:
        for _ in range(count):
            self.said += 1
            await self.causes.submit(request(Count(f"n{self.said % 5}"), str(self.said)))

    async def position(self) -> int:
        at = (await self.effects.store.checkpoints(POLICY)).get("source")
        return at.position if at else 0

    async def reached(self, position: int) -> None:
        async with asyncio.timeout(20):
            while await self.position() < position:
                await asyncio.sleep(0.02)

    async def caused(self) -> int:
        return (await self.effects.store.head()).position


@asynccontextmanager
async def a_world(dsn: str, cluster: Cluster | None) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(dsn, ["source", "toy"]))
        causes = await stack.enter_async_context(running(stores["source"], service("source")))
        effects = await stack.enter_async_context(running(stores["toy"], service("toy", "source")))
        pool = await open_pool(dsn, size=4)
        stack.push_async_callback(pool.close)
        if cluster is not None:
            await stack.enter_async_context(relaying([stores["source"]], cluster))
        processes = []
        for _ in range(2):
            plain: Bus = TailBus(stores) if cluster is None else KafkaBus(cluster, stores)
            bus = ObeyingBus(plain, PostgresOrders(pool))
            aside = PostgresAside(pool, "toy")
            runner = PolicyRunner(effects.service.policies[0], effects, bus, catalog(), aside)
            task = asyncio.create_task(runner.run())
            stack.push_async_callback(asyncio.gather, task, return_exceptions=True)
            stack.callback(task.cancel)
            processes.append(Process(bus, runner))
        yield World(causes, effects, processes, PostgresOrders(pool))


@pytest.fixture(params=["tail", "kafka"])
async def world(request: pytest.FixtureRequest, database: str) -> AsyncIterator[World]:
    cluster = None
    if request.param == "kafka":
        source: KafkaSource = request.getfixturevalue("kafka")
        skip_unless_real(source)
        cluster = request.getfixturevalue("cluster")
    async with a_world(database, cluster) as made:
        yield made


async def test_a_follower_rests_goes_on_and_goes_back_in_every_process(world: World) -> None:
    await world.say(10)
    await world.reached(10)
    await world.orders.pause([POLICY], paused=True)
    await asyncio.sleep(OBEYS_SECONDS)
    await world.say(5)
    await asyncio.sleep(1.0)
    assert (await world.position(), await world.caused()) == (10, 10)
    await world.orders.pause([POLICY], paused=False)
    await world.reached(15)
    assert await world.caused() == 15

    with pytest.raises(NotBehind, match="stands at position 15: it can go back"):
        await world.orders.rewind("toy", Checkpoint(POLICY, "source", 16, b""))
    (record,) = await world.causes.store.read(3, 1)
    await world.orders.rewind("toy", Checkpoint(POLICY, "source", 4, hashlib.sha256(record.state).digest()))
    await world.reached(15)
    await world.orders.rewind("toy", Checkpoint(POLICY, "source", 0, b""))
    await world.reached(15)
    await world.say(3)
    await world.reached(18)
    assert await world.caused() == 18, "what it had decided was not decided twice"


async def test_who_stops_takes_in_the_page_at_hand_and_hands_out_no_other(world: World) -> None:
    await world.say(20)
    await world.reached(20)
    for process in world.processes:
        assert await process.bus.drain(5)
    await world.say(5)
    await asyncio.sleep(0.5)
    assert (await world.position(), await world.caused()) == (20, 20)


async def test_a_pause_is_obeyed_while_a_refused_command_is_tried_again(database: str) -> None:
    async with a_world(database, None) as world:
        bus = world.processes[0].bus
        assert not await bus.hindered(POLICY)
        await world.orders.pause([POLICY], paused=True)
        await asyncio.sleep(OBEYS_SECONDS)
        assert await bus.hindered(POLICY)


def test_an_order_to_a_view_holds_for_its_next_version_too() -> None:
    assert [plain_name(each) for each in ("view/usage.v1", "view/usage.v12", POLICY)] == [
        "view/usage",
        "view/usage",
        POLICY,
    ]

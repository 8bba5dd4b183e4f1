"""What every bus promises its followers: the tail over both kinds of store, and Kafka in both ways of following."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from eventsourcing.persistence import StoredEvent

from events.bus import Bus, Follower, Subscription
from events.channels import service_of
from events.store import PAGE, Checkpoint, Store, StoreRewound
from infra.kafka.bus import KafkaBus
from infra.memory import MemoryStore
from infra.obeying import ObeyingBus
from infra.postgres.orders import Order
from infra.postgres.store import open_stores
from infra.tail import TailBus
from tests.followers import follower
from tests.history import seal
from tests.relaying import relaying

SERVICES = ("left", "right")
WAIT = 10.0
"""Seconds a record may take to a follower before it counts as lost."""


@dataclass
class World:
    """Two services with a bus over them."""

    stores: Mapping[str, Store]
    bus: Bus
    in_order: bool
    mock: bool = False
    versions: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def needs_offsets_by_time(self) -> None:
        """Leave the test out on the mock broker: it does not find offsets by time, so nobody can go on there."""
        if self.mock:
            pytest.skip("the mock broker finds no offset by time")

    async def append(self, service: str, count: int, streams: int = 7) -> None:
        store = self.stores[service]
        async with store.session() as session:
            events = []
            for n in range(session.head.position, session.head.position + count):
                where = service, f"node/{n % streams}"
                self.versions[where] += 1
                events.append(StoredEvent(where[1], self.versions[where], f"{service}.topic.v1", b'{"n":"%d"' % n))
            await session.append(events, seal=seal)

    async def checkpoint(self, service: str, position: int) -> Checkpoint:
        record = (await self.stores[service].read(position - 1, 1))[0]
        return Checkpoint("f", service, position, hashlib.sha256(record.state).digest())

    def following(self, *services: str, start: Mapping[str, Checkpoint] | None = None, name: str = "f") -> Follower:
        return follower(services, start, name=name, in_order=self.in_order)


class NoOrders:
    """Nobody is ordered anything."""

    async def of(self, _follower: str) -> Order:
        return Order()


@pytest.fixture(params=["tail-memory", "tail-postgres", "kafka-in-order", "kafka-by-partition"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    kind = request.param
    async with AsyncExitStack() as stack:
        stores: Mapping[str, Store] = {name: MemoryStore(name) for name in SERVICES}
        if kind == "tail-postgres":
            stores = await stack.enter_async_context(open_stores(request.getfixturevalue("database"), SERVICES))
        bus: Bus = TailBus(stores)
        if kind.startswith("kafka"):
            cluster = request.getfixturevalue("cluster")
            await stack.enter_async_context(relaying(stores.values(), cluster))
            bus = KafkaBus(cluster, stores)
        mock = kind.startswith("kafka") and not request.getfixturevalue("kafka").real
        if kind != "tail-memory":  # every follower of the platform goes through it
            bus = ObeyingBus(bus, NoOrders())
        yield World(stores, bus, kind == "kafka-in-order", mock)


@dataclass
class Followed:
    """What a follower was given: positions by service as they came, and the checkpoints it would have saved."""

    positions: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    async def page(self, subscription: Subscription, seconds: float = WAIT) -> bool:
        """Take one page and look at what it promises; False when none came in time."""
        page = await subscription.fetch(seconds)
        if page is None:
            return False
        for each in (page, *page.quiet):
            standing = self.checkpoints.get(each.channel)
            assert each.before == (standing.position if standing else 0), "a page continues the one before it"
            assert each.last > each.before
            self.checkpoints[each.channel] = each.checkpoint("f")
        service = service_of(page.channel)
        for record in page.records:
            stream = service, str(record.originator_id)
            assert record.originator_version > self.versions.get(stream, 0), "a stream is in order"
            self.versions[stream] = record.originator_version
            assert page.before < record.id <= page.last
            self.positions[service].append(record.id)
        return True

    async def until(self, subscription: Subscription, service: str, count: int) -> None:
        """Take pages until there are `count` records of a service."""
        async with asyncio.timeout(60):
            while len(self.positions[service]) < count:
                assert await self.page(subscription), f"{len(self.positions[service])} of {count} records came"


async def test_every_record_comes_once_in_order_within_its_stream_and_then_nothing_more(world: World) -> None:
    await world.append("left", PAGE + 10)
    subscription, seen = await world.bus.subscribe(world.following("left")), Followed()
    await seen.until(subscription, "left", PAGE + 10)
    while await seen.page(subscription, 0.5):
        pass
    assert sorted(seen.positions["left"]) == list(range(1, PAGE + 11))
    await subscription.close()


async def test_a_subscription_continues_after_its_checkpoints(world: World) -> None:
    world.needs_offsets_by_time()
    await world.append("left", 5)
    start = {"left": await world.checkpoint("left", 3)}
    subscription = await world.bus.subscribe(world.following("left", start=start))
    got: list[int] = []
    async with asyncio.timeout(WAIT):
        while len(got) < 2:
            page = await subscription.fetch(WAIT)
            got += [record.id for record in page.records] if page else []
    assert sorted(got) == [4, 5]
    await subscription.close()


async def test_a_follower_that_begins_anew_after_every_page_misses_nothing(world: World) -> None:
    world.needs_offsets_by_time()
    await world.append("left", 60)
    seen = Followed()
    for _ in range(3):
        subscription = await world.bus.subscribe(world.following("left", start=seen.checkpoints))
        assert await seen.page(subscription)
        await subscription.close()
        await world.append("left", 20)
    subscription = await world.bus.subscribe(world.following("left", start=seen.checkpoints))
    await seen.until(subscription, "left", 120)
    assert sorted(seen.positions["left"]) == list(range(1, 121))
    await subscription.close()


async def test_services_take_turns_so_that_a_busy_one_starves_nobody(world: World) -> None:
    await world.append("left", 4 * PAGE)
    await world.append("right", 1)
    subscription, seen = await world.bus.subscribe(world.following(*SERVICES)), Followed()
    await seen.until(subscription, "right", 1)
    assert len(seen.positions["left"]) < 4 * PAGE
    await subscription.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_waiting_follower_is_woken_by_any_of_its_services(world: World, service: str) -> None:
    subscription, seen = await world.bus.subscribe(world.following(*SERVICES)), Followed()
    waiting = asyncio.create_task(seen.until(subscription, service, 1))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    begun = asyncio.get_running_loop().time()
    await world.append(service, 1)
    await waiting
    assert asyncio.get_running_loop().time() - begun < 5
    await subscription.close()


async def rewound_at_once(world: World, start: Mapping[str, Checkpoint]) -> None:
    """Subscribe and fetch: the tail tells at the first, Kafka at the second."""
    subscription = await world.bus.subscribe(world.following(*SERVICES, start=start))
    try:
        await subscription.fetch(WAIT)
    finally:
        await subscription.close()


@pytest.mark.parametrize("position", [3, 4])
async def test_a_checkpoint_whose_record_is_gone_or_another_is_a_rewound_store(world: World, position: int) -> None:
    await world.append("left", 3)
    start = {"left": Checkpoint("f", "left", position, hashlib.sha256(b"another").digest())}
    with pytest.raises(StoreRewound):
        await rewound_at_once(world, start)


async def test_lag_counts_what_each_channel_still_holds_and_ends_at_nothing(world: World) -> None:
    await world.append("left", 2 * PAGE)
    await world.append("right", 2)
    subscription, seen = await world.bus.subscribe(world.following(*SERVICES)), Followed()
    assert await seen.page(subscription)
    come = sum(map(len, seen.positions.values()))
    assert come < 2 * PAGE + 2
    await seen.until(subscription, "left", 2 * PAGE)
    await seen.until(subscription, "right", 2)
    while await seen.page(subscription, 0.5):
        pass
    lag = await subscription.lag()
    assert {service_of(channel) for channel in lag} == {*SERVICES}
    assert set(lag.values()) == {0}
    await subscription.close()


async def test_followers_at_different_places_each_get_every_record_once(world: World) -> None:
    world.needs_offsets_by_time()
    await world.append("left", 20)
    start = {"left": await world.checkpoint("left", 15)}
    ahead = await world.bus.subscribe(world.following("left", start=start, name="ahead"))
    behind, seen = await world.bus.subscribe(world.following("left", name="behind")), Followed()
    await seen.until(behind, "left", 20)
    await world.append("left", 5)
    await seen.until(behind, "left", 25)
    got: list[int] = []
    async with asyncio.timeout(WAIT):
        while len(got) < 10:
            page = await ahead.fetch(WAIT)
            got += [record.id for record in page.records] if page else []
    assert sorted(got) == list(range(16, 26))
    assert sorted(seen.positions["left"]) == list(range(1, 26))
    await ahead.close()
    await behind.close()

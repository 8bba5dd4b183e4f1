"""What every bus promises its followers, on the tail over both kinds of store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping

import pytest
from eventsourcing.persistence import StoredEvent

from events.bus import Bus, Page
from events.store import PAGE, Checkpoint, Store, StoreRewound
from infra.memory import MemoryStore
from infra.postgres.store import open_stores
from infra.tail import TailBus

SERVICES = ("left", "right")
Stores = Mapping[str, Store]


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield {name: MemoryStore(name) for name in SERVICES}
        return
    async with open_stores(request.getfixturevalue("database"), SERVICES) as opened:
        yield opened


@pytest.fixture
def bus(stores: Stores) -> Bus:
    return TailBus(stores)


async def append(store: Store, count: int, stream: str = "s") -> None:
    async with store.session() as session:
        first = session.head.position + 1
        events = [StoredEvent(stream, first + n, "left.topic.v1", b"%d" % (first + n)) for n in range(count)]
        await session.append(events)


def checkpoint(channel: str, position: int, record: bytes) -> Checkpoint:
    return Checkpoint("f", channel, position, hashlib.sha256(record).digest())


async def fetched(page: Page | None) -> tuple[str, int, int, list[int]]:
    assert page is not None
    return page.channel, page.before, page.last, [record.id for record in page.records]


async def test_pages_continue_one_another_in_order_until_nothing_is_left(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], PAGE + 10)
    subscription = await bus.subscribe(["left"], {})
    first, second = await subscription.fetch(5), await subscription.fetch(5)
    assert await fetched(first) == ("left", 0, PAGE, list(range(1, PAGE + 1)))
    assert await fetched(second) == ("left", PAGE, PAGE + 10, list(range(PAGE + 1, PAGE + 11)))
    assert await subscription.fetch(0.05) is None


async def test_a_subscription_continues_after_its_checkpoints(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 5)
    subscription = await bus.subscribe(["left"], {"left": checkpoint("left", 3, b"3")})
    assert await fetched(await subscription.fetch(5)) == ("left", 3, 5, [4, 5])


async def test_services_take_turns_so_that_a_busy_one_starves_nobody(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 2 * PAGE)
    await append(stores["right"], 1)
    subscription = await bus.subscribe(["left", "right"], {})
    pages = [await subscription.fetch(5) for _ in range(2)]
    assert {page.channel for page in pages if page} == {"left", "right"}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_waiting_follower_is_woken_by_any_of_its_services(stores: Stores, bus: Bus, service: str) -> None:
    subscription = await bus.subscribe(SERVICES, {})
    waiting = asyncio.create_task(subscription.fetch(20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    begun = asyncio.get_running_loop().time()
    await append(stores[service], 1)
    assert await fetched(await waiting) == (service, 0, 1, [1])
    assert asyncio.get_running_loop().time() - begun < 5


async def test_a_checkpoint_whose_record_is_another_now_is_a_rewound_store(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 3)
    with pytest.raises(StoreRewound):
        await bus.subscribe(["left"], {"left": checkpoint("left", 3, b"another")})


async def test_a_checkpoint_beyond_the_last_record_is_a_rewound_store(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 3)
    with pytest.raises(StoreRewound):
        await bus.subscribe(["left", "right"], {"left": checkpoint("left", 4, b"4")})


async def test_lag_counts_the_records_each_channel_still_holds(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 7)
    await append(stores["right"], 2)
    subscription = await bus.subscribe(SERVICES, {"left": checkpoint("left", 3, b"3")})
    assert await subscription.lag() == {"left": 4, "right": 2}
    while await subscription.fetch(0.05):
        pass
    assert await subscription.lag() == {"left": 0, "right": 0}


async def test_followers_at_different_places_each_get_every_record_once(stores: Stores, bus: Bus) -> None:
    await append(stores["left"], 20)
    ahead = await bus.subscribe(["left"], {"left": checkpoint("left", 15, b"15")})
    assert (await fetched(await ahead.fetch(5)))[3] == list(range(16, 21))
    behind = await bus.subscribe(["left"], {})
    seen: list[int] = []
    await append(stores["left"], 5)
    assert (await fetched(await ahead.fetch(5)))[3] == list(range(21, 26))
    while page := await behind.fetch(0.05):
        seen += [record.id for record in page.records]
    assert seen == list(range(1, 26))

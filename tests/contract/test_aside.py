"""What every keeper of a policy's parked facts promises, in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from events.parked import Aside, Parked, Waiting
from events.store import Checkpoint, CheckpointMoved, Move, Store
from infra.memory import MemoryStore
from infra.postgres.aside import PostgresAside
from infra.postgres.pool import open_pool
from infra.postgres.store import open_stores
from tests.memory_aside import MemoryAside

POLICY = "policy/toy.echo"


@dataclass
class Kept:
    store: Store
    aside: Aside

    async def position(self) -> int:
        return (await self.store.checkpoints(POLICY))["source"].position

    async def positions(self) -> list[int]:
        return [each.fact.position for each in await self.aside.parked(POLICY, ("", 0), 10)]


@pytest.fixture(params=["memory", "postgres"])
async def kept(request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    if request.param == "memory":
        store = MemoryStore("toy")
        yield Kept(store, MemoryAside(store))
        return
    dsn = request.getfixturevalue("database")
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(open_stores(dsn, ["toy"]))
        pool = await open_pool(dsn, size=2)
        stack.push_async_callback(pool.close)
        yield Kept(stores["toy"], PostgresAside(pool, "toy"))


def fact(position: int, stream: str, *, first: bool = False) -> Waiting:
    parked = Parked(POLICY, "source", position, "source", stream, "source.said.v1", "Refused: no", first)
    return Waiting(parked, b"record %d" % position)


def step(before: int, after: int) -> Move:
    return Move(before, Checkpoint(POLICY, "source", after, b"hash"))


async def test_what_was_never_parked_is_empty(kept: Kept) -> None:
    assert await kept.aside.blocked(POLICY) == {}
    assert await kept.aside.parked(POLICY, ("", 0), 10) == []
    assert list(await kept.aside.alarms()) == []
    assert await kept.aside.counts() == {}


async def test_a_parked_fact_and_the_checkpoint_beyond_it_are_one(kept: Kept) -> None:
    await kept.aside.park(step(0, 3), fact(3, "a", first=True))
    assert (await kept.position(), await kept.positions()) == (3, [3])
    with pytest.raises(CheckpointMoved):
        await kept.aside.park(step(0, 4), fact(4, "b", first=True))
    with pytest.raises(CheckpointMoved):
        await kept.aside.park_behind(step(0, 5), fact(5, "a"))
    assert (await kept.position(), await kept.positions()) == (3, [3])
    (waiting,) = await kept.aside.parked(POLICY, ("", 0), 10)
    assert waiting.record == b"record 3"


async def test_only_behind_its_own_stream_does_a_fact_wait(kept: Kept) -> None:
    await kept.aside.park(step(0, 1), fact(1, "a", first=True))
    assert not await kept.aside.park_behind(step(1, 2), fact(2, "b"))
    assert await kept.aside.park_behind(step(1, 3), fact(3, "a"))
    assert await kept.position() == 3
    assert await kept.aside.blocked(POLICY) == {("source", "a"): 1}
    assert await kept.aside.counts() == {POLICY: 2}
    assert await kept.aside.blocked("policy/toy.other") == {}


async def test_what_is_released_lets_the_next_of_its_stream_be_the_first(kept: Kept) -> None:
    await kept.aside.park(step(0, 1), fact(1, "a", first=True))
    await kept.aside.park(step(1, 2), fact(2, "b", first=True))
    await kept.aside.park_behind(step(2, 3), fact(3, "a"))
    await kept.aside.release(fact(1, "a").fact)
    await kept.aside.release(fact(1, "a").fact)
    assert await kept.aside.blocked(POLICY) == {("source", "a"): 3, ("source", "b"): 2}
    assert [each.position for each in await kept.aside.alarms()] == [2, 3]
    await kept.aside.say(replace(fact(3, "a").fact, error="Refused: still"))
    await kept.aside.say(replace(fact(1, "a").fact, error="gone already"))
    assert {each.position: each.error for each in await kept.aside.alarms()} == {2: "Refused: no", 3: "Refused: still"}
    await kept.aside.release(fact(3, "a").fact)
    assert not await kept.aside.park_behind(step(3, 4), fact(4, "a"))


async def test_a_policy_that_was_sent_back_parks_nothing_twice(kept: Kept) -> None:
    await kept.aside.park(step(0, 1), fact(1, "a", first=True))
    await kept.aside.park_behind(step(1, 2), fact(2, "a"))
    assert await kept.aside.park_behind(step(2, 3), fact(1, "a"))
    assert await kept.positions() == [1, 2]
    assert await kept.aside.blocked(POLICY) == {("source", "a"): 1}
    assert [each.fact.position for each in await kept.aside.parked(POLICY, ("source", 1), 1)] == [2]

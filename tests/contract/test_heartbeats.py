"""What every store of heartbeats promises, judged over all adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from infra.http.heartbeats import (
    KEEP_MINUTES,
    MINUTE_MS,
    PRUNE_EVERY_MS,
    MemoryHeartbeats,
    PostgresHeartbeats,
    open_heartbeats,
)
from services.metering.heartbeats import Heartbeats

HOUR = 497_222
FIRST = HOUR * 60
ONE, TWO = "1" * 64, "2" * 64


@dataclass
class Clock:
    now_ms: int = FIRST * MINUTE_MS

    def __call__(self) -> int:
        return self.now_ms


Opener = Callable[[], Awaitable[Heartbeats]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "postgres"])
async def open_store(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Opener]:
    opened: list[PostgresHeartbeats] = []
    memory = MemoryHeartbeats(clock)

    async def opener() -> Heartbeats:
        if request.param == "memory":
            return memory
        opened.append(await open_heartbeats(request.getfixturevalue("database"), clock))
        return opened[-1]

    yield opener
    for heartbeats in opened:
        await heartbeats.close()


async def test_the_first_heartbeat_of_a_minute_stands(open_store: Opener) -> None:
    heartbeats = await open_store()
    assert await heartbeats.note("node/a", FIRST, ONE) == ONE
    assert await heartbeats.note("node/a", FIRST, TWO) == ONE
    assert await heartbeats.note("node/b", FIRST, TWO) == TWO
    assert await heartbeats.note("node/a", FIRST + 1, TWO) == TWO


async def test_an_hour_is_a_map_of_its_own_minutes_and_node(open_store: Opener) -> None:
    heartbeats = await open_store()
    for minute in (FIRST - 1, FIRST, FIRST + 2, FIRST + 59, FIRST + 60):
        await heartbeats.note("node/a", minute, ONE)
    await heartbeats.note("node/b", FIRST + 5, ONE)
    assert await heartbeats.minutes("node/a", HOUR) == 1 | 1 << 2 | 1 << 59
    assert await heartbeats.minutes("node/b", HOUR) == 1 << 5
    assert await heartbeats.minutes("node/c", HOUR) == 0


async def test_heartbeats_outlive_the_process_that_took_them(open_store: Opener) -> None:
    await (await open_store()).note("node/a", FIRST, ONE)
    other = await open_store()
    assert await other.minutes("node/a", HOUR) == 1
    assert await other.note("node/a", FIRST, TWO) == ONE


async def test_of_many_at_once_all_hear_the_one_that_stands(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    answers = await asyncio.gather(
        *((one, two)[index % 2].note("node/a", FIRST, f"{index:064x}") for index in range(20))
    )
    assert len(set(answers)) == 1


async def test_an_hour_is_kept_while_it_can_be_recorded_and_forgotten_later(open_store: Opener, clock: Clock) -> None:
    heartbeats = await open_store()
    await heartbeats.note("node/a", FIRST, ONE)
    clock.now_ms += 2 * 60 * MINUTE_MS
    await heartbeats.note("node/a", FIRST + 120, ONE)
    assert await heartbeats.minutes("node/a", HOUR) == 1
    clock.now_ms += KEEP_MINUTES * MINUTE_MS + PRUNE_EVERY_MS
    await heartbeats.note("node/a", clock.now_ms // MINUTE_MS, ONE)
    assert await heartbeats.minutes("node/a", HOUR) == 0

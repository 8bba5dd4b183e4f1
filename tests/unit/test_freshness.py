from __future__ import annotations

import asyncio

import pytest

from events.catalog import Catalog
from events.store import PAGE, StoreUnavailable
from infra.http.freshness import MIN_INTERVAL_SECONDS, FreshDirectory
from infra.memory import MemoryStore
from services.kernel.feed import DirectoryFeed


class SlowStore(MemoryStore):
    """Counts its reads, takes its time over them, and fails while `error` is set."""

    reads = 0
    error: Exception | None = None

    async def read(self, after: int, limit: int = PAGE) -> list[object]:  # type: ignore[override]
        self.reads += 1
        await asyncio.sleep(0.02)
        if self.error is not None:
            raise self.error
        return []


def fresh() -> tuple[SlowStore, FreshDirectory]:
    store = SlowStore("registry")
    return store, FreshDirectory(DirectoryFeed(store, Catalog([])))


async def test_those_who_come_together_share_one_look() -> None:
    store, directory = fresh()
    await asyncio.gather(*(directory.recent() for _ in range(50)))
    assert store.reads == 1
    await directory.recent()
    assert store.reads == 1, "a moment later it is still recent"


async def test_the_newest_is_looked_up_after_the_call_even_when_a_look_is_under_way() -> None:
    store, directory = fresh()
    first = asyncio.create_task(directory.recent())
    await asyncio.sleep(0.01)
    await directory.newest()
    assert store.reads == 2
    await first


async def test_a_caller_who_gives_up_does_not_take_the_look_from_the_others() -> None:
    store, directory = fresh()
    hasty, patient = asyncio.create_task(directory.recent()), asyncio.create_task(directory.recent())
    await asyncio.sleep(0.01)
    hasty.cancel()
    assert await patient is directory.latest
    assert store.reads == 1


async def test_a_store_that_is_away_is_told_to_everyone_and_asked_again() -> None:
    store, directory = fresh()
    store.error = StoreUnavailable("gone")
    found = await asyncio.gather(*(directory.recent() for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in found] == [StoreUnavailable] * 5
    with pytest.raises(StoreUnavailable):
        await directory.recent()
    store.error = None
    await directory.recent()


async def test_whoever_asks_one_after_another_waits_for_the_next_look() -> None:
    store, directory = fresh()
    begun = asyncio.get_running_loop().time()
    for _ in range(4):
        await directory.newest()
    assert store.reads == 4
    assert asyncio.get_running_loop().time() - begun >= 3 * MIN_INTERVAL_SECONDS

"""The collector is left out while a page is made, never while something waits, and nobody else's choice is changed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from infra.kafka.uncollected import uncollected, uncollected_steps


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_a_block_runs_without_the_collector_and_gives_back_what_was() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


async def test_work_runs_without_the_collector_and_waits_with_it() -> None:
    seen = []

    async def beside() -> None:
        seen.append(gc.isenabled())

    async def work() -> str:
        seen.append(gc.isenabled())
        await asyncio.create_task(beside())
        seen.append(gc.isenabled())
        return "done"

    assert await uncollected_steps(work()) == "done"
    assert seen == [False, True, False]
    assert gc.isenabled()


async def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise KeyError("gone")

    with pytest.raises(KeyError):
        await uncollected_steps(work())
    assert gc.isenabled()


async def test_a_cancellation_reaches_the_work() -> None:
    told = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    task = asyncio.ensure_future(_awaiting(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["cancelled"]
    assert gc.isenabled()


async def _awaiting(work: object) -> None:
    await uncollected_steps(work)  # type: ignore[arg-type] # a coroutine

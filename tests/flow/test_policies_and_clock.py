"""Policies and the clock over stores and the tail: every cause has its effect exactly once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from infra.memory import MemoryStore
from infra.tail import TailBus
from services.kernel.appender import Appender
from services.kernel.clock import ClockRunner
from services.kernel.policies import PolicyRunner
from services.kernel.replaying import command_id
from tests.memory_aside import MemoryAside
from tests.toy import Count, catalog, request, running, service


async def _follow_until(appender: Appender[Any], bus: TailBus, total: int) -> None:
    aside = MemoryAside(appender.store)
    runner = PolicyRunner(appender.service.policies[0], appender, bus, catalog(), aside)
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(10):
        while sum(appender.state.counts.values()) < total:
            await asyncio.sleep(0.01)
        channel = appender.service.policies[0].source
        while (await appender.store.checkpoints(runner.name)).get(channel) is None:
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_every_fact_has_its_effect_once_over_restarts() -> None:
    source, target = MemoryStore("source"), MemoryStore("toy")
    bus = TailBus({"source": source, "toy": target})
    async with running(source, service("source")) as causes, running(target, service("toy", "source")) as effects:
        for number in range(10):
            await causes.submit(request(Count("a"), str(number)))
        await _follow_until(effects, bus, 10)
        for number in range(10, 15):
            await causes.submit(request(Count("a"), str(number)))
        await _follow_until(effects, bus, 15)
        assert dict(effects.state.counts) == {"echo-a": 15}
    causations = [catalog().decode(event.state).actor for event in await target.read(0)]
    assert causations == ["policy/toy.echo"] * 15


async def test_a_lost_checkpoint_decides_nothing_twice() -> None:
    source, target = MemoryStore("source"), MemoryStore("toy")
    async with running(source, service("source")) as causes, running(target, service("toy", "source")) as effects:
        await causes.submit(request(Count("a"), "1"))
        bus = TailBus({"source": source, "toy": target})
        await _follow_until(effects, bus, 1)
        (record,) = await source.read(0)
        cause = catalog().decode(record.state).id
        ident = command_id(cause, "toy.echo", 0)
        (again,) = await effects.submit(request(Count("echo-a"), ident, actor="policy/toy.echo", inputs=cause.encode()))
        assert again.hit
        assert dict(effects.state.counts) == {"echo-a": 1}


async def test_two_clocks_are_harmless() -> None:
    store = MemoryStore("toy")
    async with running(store) as appender:
        clocks = [ClockRunner(appender, lambda: 3_000) for _ in range(2)]
        while sum(await asyncio.gather(*(clock.tick() for clock in clocks))):
            pass
        assert dict(appender.state.counts) == {"ticks": 3}

"""Benchmark of telemetry that is off: the command path as it is shipped beside one without any of its hooks.

Both run on the store in memory, where a command costs least and a hook would show most. The hooks of a group and of a
page are left in both: they come once for hundreds of commands.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any, Final

from events.store import Move
from events.telemetry import Telemetry
from infra.bench.commands import CALLERS, book, calling
from infra.bench.rounds import Figure, Work
from infra.memory import MemoryStore
from infra.telemetry.numbers import Numbers
from services.kernel.appender import Appender
from services.kernel.group import Request
from services.kernel.unit import Accepted, Unit

COMMANDS: Final = 5_120
ROUNDS: Final = 15


class Unhooked(Appender[Any]):
    """The command path as it was before anybody could watch it."""

    async def submit(self, *requests: Request, moves: Sequence[Move] = ()) -> Sequence[Accepted]:
        """Decide the requests together; see Appender."""
        unit = Unit(requests, moves, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        self._wake.set()
        return await unit.done

    async def _measured(self, units: Sequence[Unit]) -> Sequence[Unit]:
        return await self._commit(units)


async def bench_telemetry(*, rounds: int = ROUNDS, commands: int = COMMANDS) -> Figure:
    """Measure commands per second with telemetry off, numbers counted, against none at all."""
    async with AsyncExitStack() as stack:
        shipped = Telemetry(meter=Numbers())
        ours = await stack.enter_async_context(book(MemoryStore("treasury"), Appender, shipped))
        bare = await stack.enter_async_context(book(MemoryStore("treasury"), Unhooked))
        works = calling(ours, commands), calling(bare, commands)
        pairs = [await _pair(works, number) for number in range(rounds + 1)][1:]
    ratio = median(off / none for off, none in pairs)
    off, none = (median(each) for each in zip(*pairs, strict=True))
    name = f"telemetry off, {CALLERS} callers, in memory, per second of CPU"
    return Figure(name, off, none, ratio, "commands/s", "without its hooks", "ratio >= 0.98")


async def _pair(works: tuple[Work, Work], number: int) -> tuple[float, float]:
    """Return the rates of both in one round, who goes first in turn; by CPU time, so that neighbours count less."""
    rates = [0.0, 0.0]
    for index in (0, 1) if number % 2 else (1, 0):
        gc.collect()
        begun = time.process_time()
        units = await works[index](number)
        rates[index] = units / (time.process_time() - begun)
    return rates[0], rates[1]

"""Load that does not wait for answers, and delays counted from when a command was due.

A caller who waits for an answer before asking again goes slower where the system does, and never measures the queue
it would have stood in (coordinated omission). Here commands are due at times fixed beforehand, and whatever holds one
up counts: a late sender, the queue, the commit, the way to the view.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from random import Random

Sample = tuple[float, int]
"""When something was seen, and the position seen then."""


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return when commands are due, in seconds from the beginning: a Poisson process of `rate` a second."""
    draw, due, found = Random(seed), 0.0, []  # noqa: S311 - a reproducible load, no secret
    while (due := due + draw.expovariate(rate)) < seconds:
        found.append(due)
    return found


async def offered(due: Sequence[float], submit: Callable[[], Awaitable[int]]) -> list[Sample]:
    """Submit a command whenever one is due, whatever became of those before; return (due, position) of each."""
    begun = time.perf_counter()
    under_way: list[asyncio.Future[int]] = []
    for at in due:
        early = begun + at - time.perf_counter()
        if early > 0:
            await asyncio.sleep(early)
        under_way.append(asyncio.ensure_future(submit()))
    positions = await asyncio.gather(*under_way)
    return [(begun + at, position) for at, position in zip(due, positions, strict=True)]


def delays(sent: Sequence[Sample], seen: Sequence[Sample]) -> list[float]:
    """Return in seconds how long after it was due each command was seen, in rising order.

    `seen` are samples of a position that only grows; a command is seen with the first one that has come so far.
    """
    reached = [position for _, position in seen]
    return sorted(seen[bisect_left(reached, position)][0] - due for due, position in sent)


def percentile(rising: Sequence[float], percent: int) -> float:
    """Return the smallest value that `percent` of all do not exceed (nearest rank)."""
    return rising[max(-(-len(rising) * percent // 100) - 1, 0)]

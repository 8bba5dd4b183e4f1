"""How every benchmark measures: ours and the baseline in alternating rounds of one run, medians compared."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

Work = Callable[[int], Awaitable[int]]
"""Does one round, given its number; returns how many units it has done."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a benchmark: medians of units per second and their ratio. `floor` is what the ratio or rate owes."""

    name: str
    ours: float
    baseline: float
    ratio: float
    unit: str
    baseline_name: str
    floor: str = ""


async def rate(work: Work, number: int) -> float:
    """Return units per second of one round."""
    begun = time.perf_counter()
    units = await work(number)
    return units / (time.perf_counter() - begun)


async def alternate(rounds: int, *works: Work) -> list[float]:
    """Run all works in turn, `rounds` times; return the median rate of each. One more round first warms up."""
    rates: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for index, work in enumerate(works):
            measured = await rate(work, number)
            if number:
                rates[index].append(measured)
    return [median(each) for each in rates]

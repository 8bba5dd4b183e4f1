"""Counts in plain integers, always: a fraction of a microsecond each. Whoever asks for them loads what tells them."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.telemetry.metrics import Metric, by_name

Key = tuple[str, tuple[str, ...]]
"""The name of a metric and the values of its labels."""


@dataclass(slots=True)
class Spread:
    """A distribution: how many values fell up to each bound and beyond the last, and their sum."""

    buckets: list[int]
    total: int = 0


@dataclass(slots=True)
class Numbers:
    """The numbers of one process. Only the event loop's thread writes."""

    metrics: dict[str, Metric] = field(default_factory=lambda: dict(by_name()))
    sums: dict[Key, int] = field(default_factory=dict)
    spreads: dict[Key, Spread] = field(default_factory=dict)

    def count(self, name: str, amount: int, *labels: str) -> None:
        """Add to a counter."""
        key = (name, labels)
        self.sums[key] = self.sums.get(key, 0) + amount

    def observe(self, name: str, value: int, *labels: str) -> None:
        """Take a value into a histogram."""
        key = (name, labels)
        spread = self.spreads.get(key)
        bounds = self.metrics[name].bounds
        if spread is None:
            spread = self.spreads[key] = Spread([0] * (len(bounds) + 1))
        spread.buckets[bisect_left(bounds, value)] += 1
        spread.total += value

    @contextmanager
    def time(self, name: str, *labels: str) -> Iterator[None]:
        """Take how long the inside lasts, whether it ends well or not."""
        begun = time.perf_counter_ns()
        try:
            yield
        finally:
            self.observe(name, (time.perf_counter_ns() - begun) // 1_000, *labels)

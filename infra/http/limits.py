"""Rate limits per actor (per client address for those who did not sign), as token buckets of one process.

A bucket holds one minute's worth and fills steadily. A request is let in while the bucket is not in debt and may leave
it in debt, so one large request passes and the next one waits. With several `http` processes each counts its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from services.kernel.errors import TooManyRequests

Kind = Literal["commands", "bytes", "queries"]

MINUTE_MS: Final = 60_000
MAX_BUCKETS: Final = 20_000
"""Buckets kept; beyond it the full ones (idle for a minute) are dropped, then the longest idle."""


@dataclass(slots=True)
class _Bucket:
    """`level` is in tokens x MINUTE_MS, so that filling needs no fraction."""

    level: int
    at_ms: int


@dataclass(slots=True)
class RateLimits:
    """The buckets of everyone seen lately."""

    now_ms: Callable[[], int]
    _buckets: dict[tuple[Kind, str], _Bucket] = field(default_factory=dict)

    def spend(self, kind: Kind, who: str, per_minute: int, cost: int = 1) -> None:
        """Take `cost` tokens of `who`; raises TooManyRequests, with when to ask again, while the bucket is in debt."""
        now, capacity = self.now_ms(), per_minute * MINUTE_MS
        bucket = self._buckets.get((kind, who))
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._forget(now)
            bucket = self._buckets[kind, who] = _Bucket(capacity, now)
        gone = max(0, now - bucket.at_ms)
        bucket.level, bucket.at_ms = min(capacity, bucket.level + gone * per_minute), now
        if bucket.level <= 0:
            seconds = -(-(1 - bucket.level) // max(1, per_minute * 1_000))
            raise TooManyRequests(
                f"more than {per_minute} {kind} per minute", retry_after_seconds=min(max(seconds, 1), 3_600)
            )
        bucket.level -= cost * MINUTE_MS

    def _forget(self, now: int) -> None:
        idle = sorted(self._buckets, key=lambda name: self._buckets[name].at_ms)
        stale = [name for name in idle if now - self._buckets[name].at_ms > MINUTE_MS]
        for name in stale or idle[: MAX_BUCKETS // 10]:
            del self._buckets[name]

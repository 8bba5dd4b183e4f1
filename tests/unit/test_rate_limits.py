from __future__ import annotations

import pytest

from infra.http.limits import MAX_BUCKETS, RateLimits
from services.kernel.errors import TooManyRequests


class Clock:
    now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minute_worth_passes_at_once_and_then_one_per_interval(clock: Clock) -> None:
    limits = RateLimits(clock)
    for _ in range(60):
        limits.spend("commands", "a", 60)
    with pytest.raises(TooManyRequests) as refused:
        limits.spend("commands", "a", 60)
    assert refused.value.fields["retry_after_seconds"] == 1
    clock.now_ms += 1_000
    limits.spend("commands", "a", 60)
    with pytest.raises(TooManyRequests):
        limits.spend("commands", "a", 60)


def test_one_large_cost_passes_and_its_debt_is_waited_for(clock: Clock) -> None:
    limits = RateLimits(clock)
    limits.spend("bytes", "a", 1_000, 3_000)
    with pytest.raises(TooManyRequests) as refused:
        limits.spend("bytes", "a", 1_000, 1)
    assert refused.value.fields["retry_after_seconds"] == 121
    clock.now_ms += 121_000
    limits.spend("bytes", "a", 1_000, 1)


def test_kinds_and_actors_do_not_share_and_a_clock_set_back_gives_nothing(clock: Clock) -> None:
    limits = RateLimits(clock)
    limits.spend("commands", "a", 1)
    limits.spend("queries", "a", 1)
    limits.spend("commands", "b", 1)
    clock.now_ms -= 3_600_000
    with pytest.raises(TooManyRequests):
        limits.spend("commands", "a", 1)


def test_a_limit_of_zero_lets_nobody_in(clock: Clock) -> None:
    limits = RateLimits(clock)
    with pytest.raises(TooManyRequests):
        limits.spend("commands", "a", 0)


def test_a_crowd_of_strangers_does_not_fill_the_memory(clock: Clock) -> None:
    limits = RateLimits(clock)
    for index in range(MAX_BUCKETS + 5_000):
        clock.now_ms += index % 2
        limits.spend("queries", f"address {index}", 10)
    assert len(limits._buckets) <= MAX_BUCKETS

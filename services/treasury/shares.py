"""Exact division: largest remainder, an epoch's pool, late usage, vesting. Integers only, nothing lost, nothing made.

Sources: METERING "Epochs, score, rewards", TREASURY "Supply and distribution".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.treasury import VestingSchedule
from events.values import PPM


def largest_remainder(total: int, weights: Sequence[tuple[str, int]]) -> list[int]:
    """Divide `total` by the weights of (name, weight): floors first, then one unit each by largest remainder.

    Ties go to the smaller name. The parts stand in the order of the weights and sum to `total` exactly; their
    order never matters. Asserts that weights are not negative and not all 0.
    """
    whole = sum(weight for _, weight in weights)
    assert whole > 0, weights
    parts, remainders = [], []
    for index, (name, weight) in enumerate(weights):
        assert weight >= 0, name
        part, remainder = divmod(total * weight, whole)
        parts.append(part)
        remainders.append((-remainder, name, index))
    missing = total - sum(parts)
    for _, _, index in sorted(remainders)[:missing]:
        parts[index] += 1
    return parts


@dataclass(frozen=True, slots=True)
class PoolSplit:
    """An epoch's pool in base units: `payable` + `late_reserve` + `kept` is the pool exactly."""

    payable: int
    late_reserve: int
    kept: int


def split_pool(pool: int, micro_rgpu_hours: int, late_reserve_ppm: int, rate_cap_per_rgpu_hour: int) -> PoolSplit:
    """Split an epoch's pool: the late reserve first, then what the score earns under the rate cap, the rest is kept.

    The late reserve is set aside even when nothing scored: usage of the epoch may still come late.
    """
    reserve = pool * late_reserve_ppm // PPM
    payable = earnable(pool - reserve, micro_rgpu_hours, rate_cap_per_rgpu_hour)
    return PoolSplit(payable, reserve, pool - reserve - payable)


def earnable(available: int, micro_rgpu_hours: int, rate_cap_per_rgpu_hour: int) -> int:
    """Return the base units a score earns in time out of what is available under the rate cap."""
    return min(available, rate_cap_per_rgpu_hour * micro_rgpu_hours // PPM)


def final_rate(payable: int, micro_rgpu_hours: int, rate_cap_per_rgpu_hour: int) -> tuple[int, int]:
    """Return the rate (numerator, denominator) in base units per micro-rGPUh that late usage earns at most.

    It is what usage in time earned; where nothing scored in time it is the rate cap.
    """
    if micro_rgpu_hours == 0:
        return rate_cap_per_rgpu_hour, PPM
    return payable, micro_rgpu_hours


def late_pay(
    scores: Sequence[tuple[str, int]], rate: tuple[int, int], rooms: Mapping[str, int], reserve: int
) -> list[int]:
    """Return what each late (owner, micro-rGPUh) earns, rounded down.

    That is `rate`; pro rata where an owner's parts pass the owner's room, and again where all pass the reserve.
    """
    numerator, denominator = rate
    wanted = [score * numerator // denominator for _, score in scores]
    by_owner: Counter[str] = Counter()
    for (owner, _), part in zip(scores, wanted, strict=True):
        by_owner[owner] += part
    allowed = [_within(part, by_owner[owner], rooms[owner]) for (owner, _), part in zip(scores, wanted, strict=True)]
    whole = sum(allowed)
    return [_within(part, whole, reserve) for part in allowed]


def _within(part: int, whole: int, limit: int) -> int:
    """Return a part of a whole, cut pro rata and rounded down when the whole passes a limit."""
    return part if whole <= limit else part * limit // whole


def vested(schedule: VestingSchedule, time_ms: int) -> int:
    """Return what has vested at recorded time `time_ms`, in base units; whole seconds count, the cliff second vests."""
    elapsed = (time_ms - schedule.start_ms) // 1_000
    total = int(schedule.total)
    if elapsed < schedule.cliff_seconds or elapsed < 0:
        return 0
    if elapsed >= schedule.duration_seconds:
        return total
    return total * elapsed // schedule.duration_seconds

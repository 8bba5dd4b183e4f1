"""Exact division: largest remainder, an epoch's pool, late usage, vesting. Integers only, nothing lost, nothing made.

Sources: METERING "Epochs, score, rewards", TREASURY "Supply and distribution".
"""

from __future__ import annotations

from collections.abc import Sequence
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
    payable = min(pool - reserve, rate_cap_per_rgpu_hour * micro_rgpu_hours // PPM)
    return PoolSplit(payable, reserve, pool - reserve - payable)


def final_rate(payable: int, micro_rgpu_hours: int, rate_cap_per_rgpu_hour: int) -> tuple[int, int]:
    """Return the rate (numerator, denominator) in base units per micro-rGPUh that late usage is paid at.

    It is what usage in time earned. Where nothing scored in time it is the rate cap: being late still never raises
    pay, because usage in time would have earned the smaller of the cap and the whole pool, and late usage earns the
    smaller of the cap and the late reserve.
    """
    if micro_rgpu_hours == 0:
        return rate_cap_per_rgpu_hour, PPM
    return payable, micro_rgpu_hours


def late_pay(scores: Sequence[int], rate: tuple[int, int], reserve: int) -> list[int]:
    """Return what each late score (micro-rGPUh) earns at `rate`, rounded down; pro rata when the reserve is short."""
    numerator, denominator = rate
    wanted = [score * numerator // denominator for score in scores]
    whole = sum(wanted)
    if whole <= reserve:
        return wanted
    return [reserve * part // whole for part in wanted]


def vested(schedule: VestingSchedule, time_ms: int) -> int:
    """Return what has vested at recorded time `time_ms`, in base units; whole seconds count, the cliff second vests."""
    elapsed = (time_ms - schedule.start_ms) // 1_000
    total = int(schedule.total)
    if elapsed < schedule.cliff_seconds or elapsed < 0:
        return 0
    if elapsed >= schedule.duration_seconds:
        return total
    return total * elapsed // schedule.duration_seconds

"""Reliability (METERING "Reliability R"): lower bounds on decayed Beta estimates, in exact integers, ppm.

A trial's weight halves every 14 days of age. Ages are whole days on the grid of epoch starts. Successes age until
the epoch, failures only until the subject's newest success: neither silence nor another failure makes anyone more
reliable.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from math import isqrt
from typing import Final

from immutables import Map

from events.values import DAY_MS, MILLI_MS_PER_GPU_HOUR, PPM
from services.metering.grid import Grid
from services.metering.state import Record, Trials

EMPTY: Final = 211_324
"""The bound without any trial: 1/2 - sqrt(1/12) = 0.2113248..., floored; where a new device starts at best."""

LEASE_TRIALS_NEEDED: Final = 5
HALF_LIFE_DAYS: Final = 14
WEIGHT_UNIT: Final = 10**18
CHALLENGE_UNIT: Final = 1
HOUR_UNIT: Final = 1
LEASE_UNIT: Final = MILLI_MS_PER_GPU_HOUR
"""A lease weighs min(1, its GPU-hours): its share x time, at most this, out of this."""

DAILY_WEIGHTS: Final = (
    1_000_000_000_000_000_000,
    951_695_153_010_619_610,
    905_723_664_263_906_672,
    861_972_821_246_977_724,
    820_335_356_007_637_931,
    780_709_182_155_710_092,
    742_997_144_568_474_212,
    707_106_781_186_547_524,
    672_950_096_316_178_066,
    640_443_344_882_136_288,
    609_506_827_102_237_720,
    580_064_693_080_081_399,
    552_044_756_836_906_169,
    525_378_319_326_609_712,
)
"""0.5^(days/14) with 18 decimals (computed with 60 digits, rounded half-even); fourteen days more halve it."""


def lower_bound(successes: int, failures: int, unit: int) -> int:
    """Return floor(10^6 x max(0, m - s)) of Beta(1 + successes/unit, 1 + failures/unit); m mean, s deviation.

    With A = alpha x unit, B = beta x unit, N = A + B this is floor((10^6 A - 10^6 sqrt(A B unit / (N + unit))) / N);
    numerator and denominator are integers but for the root, so rounding the root up floors the whole exactly.
    """
    alpha, beta = unit + successes, unit + failures
    total = alpha + beta
    square = -(-(PPM * PPM * alpha * beta * unit) // (total + unit))
    root = isqrt(square - 1) + 1
    return max(0, (PPM * alpha - root) // total)


def add_trial(trials: Trials, tick: int, successes: int, failures: int, count: int = 1) -> Trials:
    """Return the trials with one more, or `count` more, at `tick`."""
    i = bisect_left(trials, (tick,))
    if i < len(trials) and trials[i][0] == tick:
        _, won, lost, known = trials[i]
        return (*trials[:i], (tick, won + successes, lost + failures, known + count), *trials[i + 1 :])
    return (*trials[:i], (tick, successes, failures, count), *trials[i:])


def with_challenge(records: Map[str, Record], tick: int, device: str, owner: str, *, passed: bool) -> Map[str, Record]:
    """Return the records with one challenge more at `tick`: a trial (V) of the device and one of its owner."""
    won, lost = (CHALLENGE_UNIT, 0) if passed else (0, CHALLENGE_UNIT)
    for subject, held_by in ((device, owner), (owner, None)):
        record = records.get(subject, Record())
        challenges = add_trial(record.challenges, tick, won, lost)
        records = records.set(subject, replace(record, challenges=challenges, owner=held_by))
    return records


def estimate(trials: Trials, unit: int, grid: Grid, epoch: int) -> tuple[int, int]:
    """Return the lower bound (ppm) from the trials up to the epoch's start, and how many those are."""
    now, per_day = grid.tick_of_epoch(epoch), DAY_MS // grid.tick_ms
    known = trials[: bisect_left(trials, (now + 1,))]
    if not known:
        return EMPTY, 0
    last = next((tick for tick, won, _, _ in reversed(known) if won), known[0][0])
    halvings = (now - known[0][0]) // per_day // HALF_LIFE_DAYS
    successes = failures = count = 0
    for tick, won, lost, trialled in known:
        if won:
            successes += won * _weight((now - tick) // per_day, halvings)
        if lost:
            failures += lost * _weight(max(0, last - tick) // per_day, halvings)
        count += trialled
    return lower_bound(successes, failures, (unit * WEIGHT_UNIT) << halvings), count


def _weight(age_days: int, halvings: int) -> int:
    """Return the weight of an age in units of 10^-18 x 2^-halvings; `halvings` is at least those of the age."""
    return DAILY_WEIGHTS[age_days % HALF_LIFE_DAYS] << (halvings - age_days // HALF_LIFE_DAYS)


def reliability(record: Record, grid: Grid, epoch: int, *, availability: bool) -> tuple[int, str]:
    """Return min(A, C, V) of one subject at an epoch's start, ppm, and which of the three bounds it.

    With fewer than 5 lease trials C = V. `availability` tells whether A takes part: it does not before a community
    asks for heartbeats, nor in a backfill, where A = C.
    """
    challenges, _ = estimate(record.challenges, CHALLENGE_UNIT, grid, epoch)
    leases, count = estimate(record.leases, LEASE_UNIT, grid, epoch)
    bounds = [(challenges, "challenges")]
    if count >= LEASE_TRIALS_NEEDED:
        bounds.append((leases, "leases"))
    if availability:
        bounds.append((estimate(record.availability, HOUR_UNIT, grid, epoch)[0], "availability"))
    return min(bounds)


def is_new(record: Record, grid: Grid, epoch: int) -> bool:
    """Tell whether a device had no challenge by the epoch's start: it may not stand above its owner's lowest."""
    return not record.challenges or record.challenges[0][0] > grid.tick_of_epoch(epoch)

"""Reliability: exact lower bounds, decay that silence cannot turn into healing, and what counts as a trial."""

from __future__ import annotations

from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.values import DAY_MS
from services.metering.grid import Grid
from services.metering.reliability import (
    DAILY_WEIGHTS,
    EMPTY,
    LEASE_UNIT,
    add_trial,
    estimate,
    lower_bound,
    reliability,
)
from services.metering.state import Record, Trials

GRID = Grid(0, DAY_MS)


@pytest.mark.parametrize(("trials", "bound"), [(0, 0.2113), (5, 0.7334), (20, 0.9111), (100, 0.9805)])
def test_an_undecayed_perfect_record_has_the_published_bound(trials: int, bound: float) -> None:
    assert round(lower_bound(trials, 0, 1) / 100) == round(bound * 10_000)


def test_ten_percent_failures_of_a_hundred_have_the_published_bound() -> None:
    assert round(lower_bound(90, 10, 1) / 100) == 8_616


def test_without_any_trial_the_bound_is_the_empty_one() -> None:
    assert lower_bound(0, 0, 1) == EMPTY == 211_324


def test_a_bound_is_never_below_zero() -> None:
    assert lower_bound(0, 1_000, 1) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**4))
def test_the_bound_is_the_floor_of_the_formula(successes: int, failures: int, unit: int) -> None:
    getcontext().prec = 80
    alpha, beta = 1 + Decimal(successes) / unit, 1 + Decimal(failures) / unit
    total = alpha + beta
    exact = alpha / total - (alpha * beta / (total * total * (total + 1))).sqrt()
    assert lower_bound(successes, failures, unit) == max(0, int((exact * 1_000_000).to_integral_value("ROUND_FLOOR")))


def test_the_daily_weights_are_half_to_the_power_of_days_over_14() -> None:
    getcontext().prec = 60
    for days, weight in enumerate(DAILY_WEIGHTS):
        exact = Decimal("0.5") ** (Decimal(days) / 14) * 10**18
        assert weight == int(exact.to_integral_value("ROUND_HALF_EVEN"))


def trials(*given_trials: tuple[int, int, int]) -> Trials:
    found: Trials = ()
    for tick, won, lost in given_trials:
        found = add_trial(found, tick, won, lost)
    return found


def test_trials_are_a_sum_whatever_their_order() -> None:
    one = trials((3, 1, 0), (1, 0, 1), (3, 0, 1), (2, 1, 0))
    assert one == trials((2, 1, 0), (3, 0, 1), (3, 1, 0), (1, 0, 1)) == ((1, 0, 1, 1), (2, 1, 0, 1), (3, 1, 1, 2))


def test_a_trial_after_the_epoch_s_start_does_not_count() -> None:
    assert estimate(trials((5, 1, 0)), 1, GRID, 4) == (EMPTY, 0)
    assert estimate(trials((5, 1, 0)), 1, GRID, 5)[1] == 1


def test_a_success_halves_in_fourteen_days() -> None:
    fresh = estimate(trials((0, 1, 0), (0, 1, 0)), 1, GRID, 14)[0]
    assert fresh == lower_bound(1, 0, 1)


def test_silence_never_heals_a_failure() -> None:
    failed = trials((0, 0, 1))
    bounds = [estimate(failed, 1, GRID, epoch)[0] for epoch in range(100)]
    assert bounds == [bounds[0]] * 100
    mixed = trials((0, 5, 1))
    decayed = [estimate(mixed, 1, GRID, epoch)[0] for epoch in range(100)]
    assert decayed == sorted(decayed, reverse=True)


def test_new_evidence_lets_a_failure_age() -> None:
    before = estimate(trials((0, 0, 1)), 1, GRID, 28)[0]
    after = estimate(trials((0, 0, 1), (28, 1, 0)), 1, GRID, 28)[0]
    # The failure weighs a quarter now; beside it stands one fresh success.
    assert after == lower_bound(4, 1, 4) > before


def test_with_fewer_than_five_leases_only_challenges_count() -> None:
    challenges = trials(*[(0, 1, 0)] * 20)
    failures = trials(*[(0, 0, LEASE_UNIT)] * 4)
    perfect = lower_bound(20, 0, 1)
    assert reliability(Record(challenges, failures), GRID, 0, availability=False) == (perfect, "challenges")
    fifth = add_trial(failures, 0, LEASE_UNIT, 0)
    found = reliability(Record(challenges, fifth), GRID, 0, availability=False)
    assert found == (lower_bound(1, 4, 1), "leases")


def test_where_availability_takes_part_it_has_no_trials_yet() -> None:
    challenges = trials(*[(0, 1, 0)] * 20)
    assert reliability(Record(challenges), GRID, 0, availability=True) == (EMPTY, "availability")


@pytest.mark.parametrize("length", [10_000, 3_600_000, 7 * DAY_MS, 5 * 3_600_000])
def test_ages_are_whole_days_at_every_epoch_s_start(length: int) -> None:
    grid = Grid(123_456, length)
    for epoch in (0, 1, 7, 1_000):
        start = grid.start(epoch)
        for before in (0, 1, DAY_MS - 1, DAY_MS, DAY_MS + 1, 30 * DAY_MS - 1, 30 * DAY_MS):
            tick = grid.tick_of(start - before)
            age = (grid.tick_of_epoch(epoch) - tick) // (DAY_MS // grid.tick_ms)
            assert age == before // DAY_MS
        assert grid.tick_of(start + 1) > grid.tick_of_epoch(epoch)


trial = st.tuples(st.integers(0, 60), st.booleans(), st.integers(1, LEASE_UNIT))


def bound(found: list[tuple[int, bool, int]], now: int) -> int:
    known = trials(*((tick, work if good else 0, 0 if good else work) for tick, good, work in found))
    return estimate(known, LEASE_UNIT, GRID, now)[0]


def test_a_small_failure_does_not_let_a_great_one_age() -> None:
    # A lease of a thousandth of a device for a minute, not served at all, two weeks after three that failed.
    failed = trials(*[(0, 0, LEASE_UNIT)] * 3)
    again = add_trial(failed, 14, 0, 60_000)
    assert estimate(again, LEASE_UNIT, GRID, 14)[0] <= estimate(failed, LEASE_UNIT, GRID, 14)[0]


@given(st.lists(trial, max_size=12), st.integers(0, 60), st.integers(0, 80))
def test_one_failure_more_never_heals(found: list[tuple[int, bool, int]], tick: int, now: int) -> None:
    assert bound([*found, (tick, False, 60_000)], now) <= bound(found, now)


@given(st.lists(trial, min_size=1, max_size=12), st.integers(0, 11), st.integers(0, 80))
def test_failing_where_one_succeeded_never_heals(found: list[tuple[int, bool, int]], at: int, now: int) -> None:
    at %= len(found)
    worse = [(tick, good and place != at, work) for place, (tick, good, work) in enumerate(found)]
    assert bound(worse, now) <= bound(found, now)

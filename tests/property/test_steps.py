"""Step functions of readings against a dictionary of milliseconds."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from services.metering import steps

reading = st.tuples(st.integers(0, 40), st.integers(1, 9), st.sampled_from((0, 300, 500, 501, 1_000)))
readings = st.lists(reading, max_size=12)


def laid(readings: list[tuple[int, int, int]]) -> tuple[steps.Points[int], dict[int, int]]:
    """Return the function, and the level of every millisecond."""
    points, levels = array("q"), {}
    for start, length, level in readings:
        met = steps.lay(points, start, start + length, level)
        assert met == any(levels.get(at, level) != level for at in range(start, start + length))
        levels |= {at: min(level, levels.get(at, level)) for at in range(start, start + length)}
    return points, levels


@given(readings, st.integers(1, 1_000), st.integers(0, 50), st.integers(0, 50))
def test_amounts_and_cover_are_sums_over_milliseconds(given_readings: list, share: int, start: int, end: int) -> None:
    points, levels = laid(given_readings)
    inside = [min(share, level) for at, level in levels.items() if start <= at < end]
    assert steps.amount(points, share, start, end) == sum(inside)
    assert steps.covered_ms(points, start, end) == len(inside)


@given(st.lists(readings, min_size=1, max_size=4), st.integers(1, 1_000))
def test_what_is_over_capacity_is_found_and_counted_to_the_millisecond(several: list, share: int) -> None:
    functions = [laid(one) for one in several]
    found = steps.over([points for points, _ in functions], 1_000)
    sums = {at: sum(levels.get(at, 0) for _, levels in functions) for at in range(50)}
    over = {at: total for at, total in sums.items() if total > 1_000}
    assert {at: total for start, end, total in found for at in range(start, end)} == over
    for points, levels in functions:
        counted = sum(min(share, level) for at, level in levels.items() if at in over)
        assert steps.amount_inside(points, share, found) == counted


@given(readings, st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=9))
def test_an_amount_inside_intervals_is_the_sum_over_each(given_readings: list, gaps: list[tuple[int, int]]) -> None:
    points, _ = laid(given_readings)
    intervals, at = [], 0
    for gap, length in gaps:
        intervals.append((at + gap, at + gap + length, 0))
        at += gap + length
    alone = [steps.amount(points, 700, start, end) for start, end, _ in intervals]
    assert steps.amount_inside(points, 700, intervals) == sum(alone)


@given(readings, st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=9))
def test_a_function_within_intervals_has_their_levels_and_none_elsewhere(
    given_readings: list, gaps: list[tuple[int, int]]
) -> None:
    points, levels = laid(given_readings)
    intervals, at = [], 0
    for gap, length in gaps:
        intervals.append((at + gap, at + gap + length, 0))
        at += gap + length
    inside = {at for start, end, _ in intervals for at in range(start, end)}
    found = {
        at: level for start, end, level in steps.segments(steps.within(points, intervals)) for at in range(start, end)
    }
    assert found == {at: level for at, level in levels.items() if at in inside}

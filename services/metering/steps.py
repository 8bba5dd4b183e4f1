"""Readings of one device under one lease as a step function of time: a set of intervals, the lowest level wins.

A function is a sorted `array('q')` of points `time_ms * 2^20 + mark`: from that time on the mark holds until the next
point. Mark 0 is "nothing recorded", mark `level + 1` a recorded level. No two neighbouring points have the same
mark, so one set of readings has one spelling whatever the order, slicing or repetition it arrived in. In state the
array is kept as bytes: 16 bytes for a lone interval, nothing more for a neighbour of equal level.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

SHIFT: Final = 20
"""Levels reach a million milli (a thousand cores), times the year 2248, in 63 bits."""

MARKS: Final = (1 << SHIFT) - 1

Points = array  # of 'q'


def load(raw: bytes) -> Points[int]:
    """Return the points kept as bytes."""
    points = array("q")
    points.frombytes(raw)
    return points


def lay(points: Points[int], start: int, end: int, level: int) -> bool:
    """Lay one reading `[start, end)` over the function, in place; on an overlap the lower level stands.

    Returns whether it met another level.
    """
    mark = level + 1
    first, stop = start << SHIFT, end << SHIFT
    i = bisect_left(points, first)
    size = len(points)
    if i == size:
        # Nothing recorded at or after `start`: the last point, if any, ended earlier.
        points.append(first | mark)
        points.append(stop)
        return False
    before = points[i - 1] & MARKS if i else 0
    if not before and points[i] > stop | MARKS:
        points[i:i] = array("q", (first | mark, stop))
        return False
    j = bisect_left(points, stop, i)
    out: list[int] = []
    met = False
    last = here = before
    time = first
    for point in points[i:j]:
        next_time = point & ~MARKS
        if next_time > time:
            new = mark if not here or mark < here else here
            if new != last:
                out.append(time | new)
                last = new
            met = met or here not in {0, mark}
            time = next_time
        here = point & MARKS
    new = mark if not here or mark < here else here
    if new != last:
        out.append(time | new)
        last = new
    if j < size and points[j] & ~MARKS == stop:
        if points[j] & MARKS == last:
            j += 1
    elif here != last:
        out.append(stop | here)
    points[i:j] = array("q", out)
    return met or here not in {0, mark}


def disagrees(points: Points[int], start: int, end: int, level: int) -> bool:
    """Tell whether a reading meets another recorded level anywhere on its interval."""
    mark = level + 1
    i = bisect_left(points, start << SHIFT)
    size = len(points)
    stop = end << SHIFT
    if i == size:
        return False
    if points[i] > start << SHIFT | MARKS:
        before = points[i - 1] & MARKS if i else 0
        if before and before != mark:
            return True
    while i < size and points[i] < stop:
        here = points[i] & MARKS
        if here and here != mark:
            return True
        i += 1
    return False


def segments(points: Points[int]) -> list[tuple[int, int, int]]:
    """Return what is recorded as `(start, end, level)`, in order."""
    return [(point >> SHIFT, after >> SHIFT, (point & MARKS) - 1) for point, after in pairwise(points) if point & MARKS]


def before(points: Points[int], end: int) -> Points[int]:
    """Return the function as far as `end`, as a lease that was cancelled then leaves it."""
    cut = points[: bisect_left(points, end << SHIFT)]
    if cut and cut[-1] & MARKS:
        cut.append(end << SHIFT)
    return cut


def covered_ms(points: Points[int], start: int, end: int) -> int:
    """Return how many milliseconds of `[start, end)` have a reading."""
    return sum(max(0, min(last, end) - max(first, start)) for first, last, _ in segments(points))


def amount(points: Points[int], share: int, start: int, end: int) -> int:
    """Return the sum over `[start, end)` of min(share, level) x milliseconds."""
    return sum(
        min(share, level) * max(0, min(last, end) - max(first, start)) for first, last, level in segments(points)
    )


def amount_inside(points: Points[int], share: int, intervals: Sequence[tuple[int, int, int]]) -> int:
    """Return what `amount` comes to inside sorted, disjoint `(start, end, _)`, in one pass over both."""
    total = i = 0
    for first, last, level in segments(points):
        while i < len(intervals) and intervals[i][1] <= first:
            i += 1
        j = i
        while j < len(intervals) and intervals[j][0] < last:
            total += min(share, level) * (min(last, intervals[j][1]) - max(first, intervals[j][0]))
            j += 1
        i = max(i, j - 1)  # the last one may reach into the next segment
    return total


def within(points: Points[int], intervals: Sequence[tuple[int, int, int]]) -> Points[int]:
    """Return the function inside sorted, disjoint `(start, end, _)`; outside them nothing is recorded."""
    found: Points[int] = array("q")
    i = 0
    for first, last, level in segments(points):
        while i < len(intervals) and intervals[i][1] <= first:
            i += 1
        j = i
        while j < len(intervals) and intervals[j][0] < last:
            start, end = max(first, intervals[j][0]), min(last, intervals[j][1])
            if start < end:
                lay(found, start, end, level)
            j += 1
        i = max(i, j - 1)  # the last one may reach into the next segment
    return found


def over(functions: list[Points[int]], limit: int) -> list[tuple[int, int, int]]:
    """Return the intervals in which the levels of several functions sum above `limit`, as `(start, end, sum)`."""
    if sum(max(0, *(point & MARKS for point in points), 1) - 1 for points in functions) <= limit:
        return []
    changes: list[tuple[int, int]] = []
    for points in functions:
        for start, end, level in segments(points):
            changes += ((start, level), (end, -level))
    changes.sort()
    found: list[tuple[int, int, int]] = []
    total, since = 0, 0
    for time, change in changes:
        if time > since and total > limit:
            if found and found[-1][1] == since and found[-1][2] == total:
                found[-1] = (found[-1][0], time, total)
            else:
                found.append((since, time, total))
        total, since = total + change, time
    return found


def agreed(provider: Points[int], consumer: Points[int], *, alone: bool) -> Points[int]:
    """Return the lower of both sides wherever both recorded a level.

    Where only the provider did, its level stands if `alone`, and nothing is recorded otherwise.
    """
    found: Points[int] = array("q")
    theirs, i = segments(consumer), 0
    for start, end, level in segments(provider):
        at = start
        while i < len(theirs) and theirs[i][1] <= start:
            i += 1
        while i < len(theirs) and theirs[i][0] < end:
            since, until, other = theirs[i]
            if since > at and alone:
                lay(found, at, since, level)
            lay(found, max(since, at), min(until, end), min(level, other))
            at = min(until, end)
            if until > end:
                break  # it reaches into the next segment
            i += 1
        if at < end and alone:
            lay(found, at, end, level)
    return found

"""Cuts time into readings: on a grid of slices within each UTC hour, never across the border of two hours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from events.values import HOUR_MS

MOST_SLICE_MS: Final = 300_000
"""A reading is at most this long (METERING)."""

HOUR_LINES: Final = 7_200
"""About as many lines an hour may have: late, it travels whole, in at most 16 parts of a batch each."""


def slice_end(at_ms: int, slice_ms: int) -> int:
    """Return the next end of a slice after a moment; the last slice of an hour ends with it."""
    hour = at_ms - at_ms % HOUR_MS
    return min(hour + HOUR_MS, hour + ((at_ms - hour) // slice_ms + 1) * slice_ms)


def last_end(at_ms: int, slice_ms: int) -> int:
    """Return the latest end of a slice that is not after a moment."""
    hour = at_ms - at_ms % HOUR_MS
    return hour + (at_ms - hour) // slice_ms * slice_ms


def slices(start_ms: int, end_ms: int, slice_ms: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive intervals from start to end, cut at every end of a slice."""
    while start_ms < end_ms:
        until = min(end_ms, slice_end(start_ms, slice_ms))
        yield start_ms, until
        start_ms = until


def widened(slice_ms: int, pairs: int) -> int:
    """Return the slice to use for so many (device, lease) pairs, so that an hour can still travel whole."""
    fitting = -(-HOUR_MS * pairs // HOUR_LINES)
    return min(MOST_SLICE_MS, max(slice_ms, -(-fitting // 1_000) * 1_000))

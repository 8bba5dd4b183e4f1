"""Which epochs may close now: a closed backfill's in order, live ones in order a governed time after their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from services.kernel.decider import Timed
from services.metering.commands import CloseEpoch, ForfeitHoldback, ReleaseHoldback
from services.metering.state import Backfill, Metering

MOST_AT_ONCE: Final = 100
"""Epochs offered to one tick of the clock, so that a long pause is caught up in steps."""


def due(state: Metering, now_ms: int) -> Sequence[Timed]:
    """Return the commands whose deadline has passed, in the order in which they must be decided."""
    closes = [Timed(f"close-epoch/{epoch}", CloseEpoch(epoch)) for epoch in islice(_due(state, now_ms), MOST_AT_ONCE)]
    return [*closes, *islice(_ends(state), MOST_AT_ONCE)]


def _ends(state: Metering) -> Iterator[Timed]:
    """Yield a command for every epoch of whose holdback something can end; what is lost goes before what is earned."""
    ends = state.holdback.ends
    for epoch in sorted(state.holdback.lost()):
        yield Timed(f"forfeit-holdback/{epoch}/{ends.get(epoch, 0)}", ForfeitHoldback(epoch))
    for epoch, _ in state.holdback.releasable(state.next_live):
        yield Timed(f"release-holdback/{epoch}/{ends.get(epoch, 0)}", ReleaseHoldback(epoch))


def _due(state: Metering, now_ms: int) -> Iterator[int]:
    if state.rules is None:
        return
    for known in sorted(state.backfills.values(), key=lambda known: known.first_epoch):
        if known.closed:
            yield from range(known.next_epoch, known.last_epoch + 1)
    epoch = state.next_live
    while not_over(state, epoch, now_ms) is None:
        yield epoch
        epoch += 1


def backfill_of(state: Metering, epoch: int) -> Backfill | None:
    """Return the backfill whose fund pays an epoch; None for a live one (from the founding on)."""
    if epoch >= state.first_live:
        return None
    return next((known for known in state.backfills.values() if known.first_epoch <= epoch <= known.last_epoch), None)


def not_over(state: Metering, epoch: int, now_ms: int) -> str | None:
    """Return why an epoch cannot close yet, or None when it can."""
    assert state.rules is not None
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    for known in state.backfills.values():
        if not known.closed and known.start_ms < end and known.end_ms > start:
            return f"the backfill {known.backfill} covers it and is not closed"
    if epoch >= state.first_live and now_ms < end + state.rules.close_after_ms:
        return "its time to close has not come"
    return None

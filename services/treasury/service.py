"""The treasury's manifest."""

from __future__ import annotations

from collections.abc import Sequence

from services.kernel.decider import Service, Timed
from services.treasury.commands import ReleaseLateReserve
from services.treasury.decide import DECIDE
from services.treasury.gate import ReleaseGate
from services.treasury.policies import policies
from services.treasury.state import Book, evolve, initial


def due(state: Book, now_ms: int) -> Sequence[Timed]:
    """Return a release for every late reserve whose days are over, in epoch order."""
    return tuple(
        Timed(f"release-late-reserve/{epoch}", ReleaseLateReserve(epoch))
        for epoch, settlement in sorted(state.epochs.settled.items())
        if not settlement.released and now_ms >= settlement.release_ms
    )


def service(gate: ReleaseGate) -> Service[Book]:
    """Return the treasury's rules. `gate` says whether rewards may be paid on a fact now."""
    return Service("treasury", initial, evolve, DECIDE, policies(gate), due, snapshot_version=2)

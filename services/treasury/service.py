"""The treasury's manifest."""

from __future__ import annotations

from collections.abc import Sequence

from events.registry_terms import KINDS
from services.kernel.decider import Service, Timed
from services.treasury import names
from services.treasury.commands import ReleaseLateReserve
from services.treasury.decide import DECIDE
from services.treasury.evolve import evolve
from services.treasury.gate import ReleaseGate
from services.treasury.policies import policies
from services.treasury.state import Book, initial


def due(state: Book, now_ms: int) -> Sequence[Timed]:
    """Return a release for every late reserve whose days are over, in the order of epochs and kinds."""
    over = [
        key
        for key, settlement in state.epochs.settled.items()
        if not settlement.released and now_ms >= settlement.release_ms
    ]
    return tuple(
        Timed(f"release-{names.late_reserve(epoch, kind)}", ReleaseLateReserve(epoch, kind))
        for epoch, kind in sorted(over, key=lambda key: (key[0], KINDS.index(key[1])))
    )


def service(gate: ReleaseGate) -> Service[Book]:
    """Return the treasury's rules. `gate` says whether rewards may be paid on a fact now."""
    return Service("treasury", initial, evolve, DECIDE, policies(gate), due, snapshot_version=3)

"""Factors of what was leased in an epoch but had nothing counted when it closed: they are frozen all the same.

What is measured there may still come late. It never scores above what it would have had in time, though trials of
before that epoch may be known only since (METERING "Epochs"; docs/decisions/0007).
"""

from __future__ import annotations

from dataclasses import replace

from immutables import Map

from services.metering.kinds import scored
from services.metering.scoring import factor_of, judge
from services.metering.state import ClaimClass, Metering, Paid, mapped


def with_factors_frozen(state: Metering, epoch: int) -> Metering:
    """Return the state with the factors of every device and class that was leased in a live epoch that closes now."""
    paid = state.paid.get(epoch, Map())
    missing = {key: held for key, held in _leased(state, epoch).items() if key not in paid}
    if not missing:
        return state
    judged = judge(state, epoch, [(device, owner) for (_, device, _), (_, owner) in missing.items()])
    at_ms, known = state.grid.start(epoch), paid.mutate()
    for key, (model, owner) in missing.items():
        _, device, work_class = key
        known[key] = Paid(0, factor_of(state, device, model, work_class, at_ms), judged.of(device, owner))
    return replace(state, paid=state.paid.set(epoch, known.finish()))


def _leased(state: Metering, epoch: int) -> dict[ClaimClass, tuple[str, str]]:
    """Return model and owner of every device and class that an earning lease of the epoch names."""
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    found: dict[ClaimClass, tuple[str, str]] = {}
    for kind in scored(state):
        for booked in mapped(state.bookings, kind).values():
            for since, until, _, _, lease_id in booked:
                lease = state.leases[lease_id].fact
                if since < end and until > start and lease.linked is None:
                    for leased in lease.devices:
                        found[lease.node, leased.device, lease.work_class] = leased.model, lease.owner
    return found

"""What the close of an epoch leaves behind: trials of the leases that ended in it, and a smaller state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from immutables import Map

from events.metering import EpochClosed, Lease
from events.registry_terms import DeviceKind
from events.values import DAY_MS, HOUR_MS
from services.metering import steps
from services.metering.availability import with_hours_judged
from services.metering.batches import MAX_READING_MS
from services.metering.energy import without_epoch
from services.metering.folding import recorded
from services.metering.frozen import with_factors_frozen
from services.metering.kinds import is_metered, scored
from services.metering.reliability import LEASE_UNIT, add_trial
from services.metering.state import LeaseState, Metering, Record, mapped

K = TypeVar("K")
V = TypeVar("V")

LATE_MS: Final = HOUR_MS
"""A reading recorded later than this after its end is late."""

KEPT_MS: Final = 35 * DAY_MS
"""How long an ended lease stays known; older readings are refused anyway."""

COVER_PERCENT: Final = 95
"""A lease trial succeeds when readings cover at least this much of the lease on the device."""


def last_epoch(state: Metering, start_ms: int, end_ms: int) -> int:
    """Return the epoch whose close settles a lease; never one before the founding that no backfill closes."""
    epoch = state.grid.epoch_of(max(start_ms, end_ms - 1))
    owned = any(known.first_epoch <= epoch <= known.last_epoch for known in state.backfills.values())
    return epoch if owned else max(epoch, state.first_live)


def after_close(state: Metering, fact: EpochClosed, now_ms: int) -> Metering:
    """Return the state after an epoch closed at recorded time `now_ms`."""
    if fact.backfill is None:
        # What was touched was scored in this very commit.
        state = with_factors_frozen(state, fact.epoch)
        state = _settled_in_time(replace(state, next_live=fact.epoch + 1, touched=frozenset()), now_ms)
        state = replace(state, energy=without_epoch(state.energy, fact.epoch))
        state = with_hours_judged(state, now_ms)
        return _without_old_leases(_without_old_hours(_without_old_usage(state, now_ms), now_ms), now_ms)
    state, known = _settled(state, fact.epoch), state.backfills[fact.backfill]
    state = replace(
        state,
        backfills=state.backfills.set(fact.backfill, replace(known, next_epoch=fact.epoch + 1)),
        usage=_dropped(state.usage, fact.epoch),
    )
    return _without_leases_of(state, fact.epoch)


def _settled_in_time(state: Metering, now_ms: int) -> Metering:
    """Settle the closed live epochs that no reading in time can reach any more."""
    epoch = state.next_settled
    while epoch < state.next_live and state.grid.end(epoch) <= now_ms - LATE_MS - MAX_READING_MS:
        state = _settled(state, epoch)
        epoch += 1
    return replace(state, next_settled=epoch)


def _settled(state: Metering, epoch: int) -> Metering:
    """Add an epoch's cover to the leases that go on, and settle the trials of those that end in it."""
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    ended = state.ending.get(epoch, frozenset())
    covered, records, kinds = state.covered.mutate(), state.records, scored(state)
    for key, raw in state.usage.get(epoch, Map()).items():
        lease = state.leases.get(key[1])
        if lease is not None and lease.end_ms > end and lease.fact.kind in kinds and is_metered(lease, key[0]):
            points = steps.load(raw)
            covered[key] = covered.get(key, 0) + steps.covered_ms(points, start, end)
    for lease_id in sorted(ended):
        lease = state.leases[lease_id]
        totals: dict[str, int] = {}
        for device in lease.fact.devices:
            key = (device.device, lease_id)
            points = recorded(state.usage, epoch, key)
            totals[device.device] = covered.pop(key, 0) + steps.covered_ms(points, start, min(end, lease.end_ms))
        if totals and lease.fact.kind in kinds and lease.end_ms > lease.fact.start_ms:
            records = _with_trials(records, state, lease, totals)
    return replace(state, covered=covered.finish(), records=records)


def _with_trials(
    records: Map[str, Record], state: Metering, lease: LeaseState, totals: Mapping[str, int]
) -> Map[str, Record]:
    """Add an ended lease's trial to each of its devices, and one to their owner: kept only if all of them kept it."""
    length = lease.end_ms - lease.fact.start_ms
    kept = {
        device: total * 100 >= COVER_PERCENT * length and not (lease.cancelled and _gap_at_end(state, lease, device))
        for device, total in totals.items()
    }
    work = lease.fact.share * length
    owner = lease.fact.owner
    subjects: list[tuple[str, str | None, int, bool]] = [(device, owner, work, good) for device, good in kept.items()]
    subjects.append((owner, None, work * len(kept), all(kept.values())))
    tick = state.grid.tick_of(lease.end_ms)
    for subject, held_by, worth, good in subjects:
        if good and lease.fact.linked is not None:
            continue  # serving oneself proves nothing; failing oneself does
        weight = min(LEASE_UNIT, worth)
        won, lost = (weight, 0) if good else (0, weight)
        record = records.get(subject, Record())
        leases = add_trial(record.leases, tick, won, lost)
        records = records.set(subject, replace(record, leases=leases, owner=held_by))
    return records


def _gap_at_end(state: Metering, lease: LeaseState, device: str) -> bool:
    """Tell whether readings cover less than 95 % of the last hour before a cancellation."""
    start = max(lease.fact.start_ms, lease.end_ms - HOUR_MS)
    grid = state.grid
    total = sum(
        steps.covered_ms(recorded(state.usage, epoch, (device, lease.fact.lease)), start, lease.end_ms)
        for epoch in range(grid.epoch_of(start), grid.epoch_of(lease.end_ms - 1) + 1)
    )
    return total * 100 < COVER_PERCENT * (lease.end_ms - start)


def _without_old_usage(state: Metering, now_ms: int) -> Metering:
    """Forget closed live epochs that no reading can touch and no lease to be judged had its last hour in.

    Readings in time come within 65 minutes; late ones for 35 days, where an hour's hash was recorded in time.
    """
    settled = min(now_ms - LATE_MS - MAX_READING_MS, state.grid.start(state.next_settled) - HOUR_MS)
    grid, booked = state.grid, state.first_booked
    while booked < state.next_live and grid.end(booked) <= settled:
        state = without_bookings(state, (state.leases[name].fact for name in state.ending.get(booked, frozenset())))
        booked += 1
    first, usage, paid, consumed = state.first_kept, state.usage, state.paid, state.consumed
    while first < booked and (grid.end(first) <= now_ms - KEPT_MS or not _has_hours(state, first)):
        usage, paid, consumed = _dropped(usage, first), _dropped(paid, first), _dropped(consumed, first)
        first += 1
    return replace(state, usage=usage, paid=paid, consumed=consumed, first_kept=first, first_booked=booked)


def _has_hours(state: Metering, epoch: int) -> bool:
    """Tell whether any node's hour in the epoch was recorded: then late readings may still come to it."""
    hours = range(state.grid.start(epoch) // HOUR_MS, (state.grid.end(epoch) - 1) // HOUR_MS + 1)
    return any(hour in known for known in state.hours.values() for hour in hours)


def _without_old_hours(state: Metering, now_ms: int) -> Metering:
    """Forget hours, and parts of their spools, whose readings are refused for their age by now."""
    first = (now_ms - KEPT_MS) // HOUR_MS
    for name in ("hours", "spools"):
        kept = known = getattr(state, name)
        for node, hours in known.items():
            young = Map({hour: value for hour, value in hours.items() if hour >= first})
            if len(young) < len(hours):
                kept = kept.set(node, young) if young else kept.delete(node)
        state = replace(state, **{name: kept})
    return state


def _without_old_leases(state: Metering, now_ms: int) -> Metering:
    limit = state.grid.epoch_of(now_ms - KEPT_MS)
    for epoch in sorted(epoch for epoch in state.ending if state.first_live <= epoch < min(limit, state.first_kept)):
        state = _without_leases_of(state, epoch)
    return state


def _without_leases_of(state: Metering, epoch: int) -> Metering:
    leases = state.leases.mutate()
    gone = [leases.pop(lease_id).fact for lease_id in state.ending.get(epoch, frozenset())]
    state = without_bookings(state, gone)
    return replace(state, leases=leases.finish(), ending=_dropped(state.ending, epoch))


def without_bookings(state: Metering, leases: Iterable[Lease]) -> Metering:
    """Return the state without what leases promised away; each node's promises are gone through once."""
    gone: dict[DeviceKind, dict[str, set[str]]] = {}
    for lease in leases:
        gone.setdefault(lease.kind, {}).setdefault(lease.node, set()).add(lease.lease)
    bookings = state.bookings
    for kind, nodes in gone.items():
        of = mapped(bookings, kind)
        for node, ids in nodes.items():
            rest = tuple(known for known in of.get(node, ()) if known[4] not in ids)
            of = of.set(node, rest) if rest else _dropped(of, node)
        bookings = bookings.set(kind, of) if of else _dropped(bookings, kind)
    return replace(state, bookings=bookings)


def _dropped(mapping: Map[K, V], key: K) -> Map[K, V]:
    return mapping.delete(key) if key in mapping else mapping

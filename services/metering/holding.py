"""How holdback changes: scores begin it, challenges take slots or fail epochs, disputes stop it, facts end it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from immutables import Map

from events import metering
from events.metering import NodeScore
from events.registry_terms import DeviceKind
from services.metering.holdback import Dispute, Holdback, HoldKey, earned
from services.metering.slots import free_slot, since, with_slot
from services.metering.state import Metering

K = TypeVar("K")
V = TypeVar("V")


def holds_back(state: Metering) -> bool:
    """Tell whether the rules hold anything back."""
    return state.rules is not None and bool(state.rules.rules.holdback_ppm)


def held(state: Metering, fact: metering.EpochPaged | metering.LateUsageScored) -> Metering:
    """Return the state after a page of a live epoch's scores, or of late ones."""
    if not holds_back(state):
        return state
    return replace(state, holdback=with_scores(state.holdback, fact.epoch, fact.kind or "gpu", fact.nodes))


def challenged(state: Metering, key: HoldKey, device: str, end_ms: int, *, passed: bool) -> Metering:
    """Return the state after a challenge of a node's device of a kind: one takes a slot or fails an epoch."""
    if not holds_back(state):
        return state
    known, epoch = state.holdback, state.grid.epoch_of(end_ms)
    if passed:
        return replace(state, holdback=with_pass(known, device, epoch, state.first_kept))
    failed = known.failed.set(epoch, known.failed.get(epoch, frozenset()) | {key})
    return replace(state, holdback=replace(known, failed=failed))


def ended(state: Metering, fact: metering.HoldbackReleased | metering.HoldbackForfeited) -> Metering:
    """Return the state after holds of an epoch ended."""
    released = isinstance(fact, metering.HoldbackReleased)
    known = with_end(state.holdback, fact.epoch, fact.kind, fact.nodes, state.first_kept, released=released)
    return replace(state, holdback=known)


def disputed(state: Metering, fact: metering.UsageDisputed | metering.DisputeEnded) -> Metering:
    """Return the state after a dispute was opened or ended."""
    disputes = state.holdback.disputes
    if isinstance(fact, metering.DisputeEnded):
        dispute = replace(disputes[fact.dispute], ruling=fact.ruling)
    else:
        dispute = Dispute(fact.node, fact.epochs, fact.by)
    return replace(state, holdback=replace(state.holdback, disputes=disputes.set(fact.dispute, dispute)))


def cleared(state: Metering) -> Metering:
    """Return the state after a close, without what no usage can come to any more."""
    return replace(state, holdback=forgotten(state.holdback, state.first_kept)) if holds_back(state) else state


def with_scores(known: Holdback, epoch: int, kind: DeviceKind, nodes: Sequence[NodeScore]) -> Holdback:
    """Return the holdback after a page of scores: what earns is held, unless what it belongs to has ended."""
    held, served = known.held.get(epoch, Map()).mutate(), known.served.get(epoch, Map()).mutate()
    over, of_device = known.ended.get(epoch, Map()).mutate(), known.of_device.mutate()
    for node in nodes:
        key, devices = (kind, node.node), earned(node)
        covered = over.get(key, ())
        if covered is None or set(devices) <= set(covered or held.get(key, ())):
            continue  # it was forfeited, or what is late was released or is held already
        over.pop(key, None)
        held[key] = whole = tuple(sorted({*devices, *covered, *held.get(key, ())}))
        for device in whole:
            of_device[device] = tuple(sorted({*of_device.get(device, ()), (epoch, *key)}))
        if known.is_served(epoch, whole):
            served[key] = whole
        else:
            served.pop(key, None)
    return replace(
        known,
        held=_with(known.held, epoch, held.finish()),
        served=_with(known.served, epoch, served.finish()),
        of_device=of_device.finish(),
        ended=_with(known.ended, epoch, over.finish()),
    )


def with_pass(known: Holdback, device: str, epoch: int, first_kept: int) -> Holdback:
    """Return the holdback after a passed challenge of a device that ended in an epoch."""
    taken = known.slots.get(device, ())
    slot = free_slot(taken, epoch)
    if slot < _oldest(known, device, first_kept):
        return known
    known = replace(known, slots=known.slots.set(device, with_slot(taken, slot)))
    served = known.served.get(slot, Map())
    for of, kind, node in known.of_device.get(device, ()):
        if of == slot and known.is_served(slot, devices := known.held[slot][kind, node]):
            served = served.set((kind, node), devices)
    return replace(known, served=_with(known.served, slot, served))


def _oldest(known: Holdback, device: str, first_kept: int) -> int:
    """Return a device's oldest slot that anything is held of, or that late usage may still come to."""
    return min((first_kept, *(place[0] for place in known.of_device.get(device, ()))))


def with_end(
    known: Holdback, epoch: int, kind: DeviceKind, nodes: Iterable[str], first_kept: int, *, released: bool
) -> Holdback:
    """Return the holdback after these nodes' of an epoch ended; it is remembered while late usage may come."""
    held, served = known.held[epoch].mutate(), known.served.get(epoch, Map()).mutate()
    over, of_device = known.ended.get(epoch, Map()).mutate(), known.of_device.mutate()
    for node in nodes:
        key = (kind, node)
        devices = held.pop(key)
        served.pop(key, None)
        for device in devices:
            rest = tuple(place for place in of_device.pop(device) if place != (epoch, *key))
            if rest:
                of_device[device] = rest
        if epoch >= first_kept:
            over[key] = devices if released else None
    return replace(
        known,
        held=_with(known.held, epoch, held.finish()),
        served=_with(known.served, epoch, served.finish()),
        of_device=of_device.finish(),
        ended=_with(known.ended, epoch, over.finish()),
        ends=known.ends.set(epoch, known.ends.get(epoch, 0) + 1),
    )


def _with(of: Map[K, V], name: K, value: V) -> Map[K, V]:
    """Return the map with what stands under a name, without it where that is empty."""
    if value:
        return of.set(name, value)
    return of.delete(name) if name in of else of


def forgotten(known: Holdback, first_kept: int) -> Holdback:
    """Return the holdback without what no usage can come to any more: before `first_kept` no epoch is kept."""
    slots = known.slots
    for device, taken in known.slots.items():
        rest = since(taken, _oldest(known, device, first_kept))
        if rest != taken:
            slots = _with(slots, device, rest)
    failed = known.failed
    for epoch, keys in known.failed.items():
        if epoch < first_kept:
            failed = _with(failed, epoch, keys.intersection(known.held.get(epoch, ())))
    return replace(
        known,
        slots=slots,
        failed=failed,
        disputes=Map(
            {
                name: one
                for name, one in known.disputes.items()
                if not one.ruling or any(epoch >= first_kept or epoch in known.held for epoch in one.epochs)
            }
        ),
        ended=Map({epoch: ended for epoch, ended in known.ended.items() if epoch >= first_kept}),
        ends=Map({epoch: count for epoch, count in known.ends.items() if epoch >= first_kept or epoch in known.held}),
    )

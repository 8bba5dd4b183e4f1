"""How a batch's runs fold into usage: which epochs they fall in, and what they lay over what is recorded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from immutables import Map

from services.metering import steps
from services.metering.batches import Reading, read_batch, runs_without
from services.metering.state import DeviceLease, LeaseState, Metering


def is_kept(state: Metering, lease: LeaseState, epoch: int) -> bool:
    """Tell whether an epoch still takes readings of a lease: none that will never close, none that is forgotten."""
    if lease.fact.backfill is not None and epoch < state.first_live:
        return True
    return epoch >= state.first_kept


@dataclass(frozen=True, slots=True)
class Folded:
    """What a batch made of the usage: the closed live epochs it fell in, and whether a reading met another level."""

    usage: Map[int, Map[DeviceLease, bytes]]
    closed: frozenset[int]
    met: bool


@dataclass(frozen=True, slots=True, eq=False)
class Onto:
    """A batch on top of one state, by the state's identity: it is decided and folded from the same one."""

    state: Metering
    jws: str
    left_out: frozenset[int]

    def __hash__(self) -> int:
        return hash((id(self.state), self.jws, self.left_out))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Onto):
            return NotImplemented
        return self.state is other.state and self.jws == other.jws and self.left_out == other.left_out


@lru_cache(maxsize=1)
def fold_batch(onto: Onto) -> Folded:
    """Return the usage with a batch's readings but for those left out. Remembers the last one, pure otherwise."""
    batch = read_batch(onto.jws)
    runs = runs_without(onto.jws, onto.left_out) if onto.left_out else batch.runs
    return fold(onto.state, runs, batch.devices, batch.leases)


def fold(state: Metering, runs: Iterable[Reading], devices: Sequence[str], leases: Sequence[str]) -> Folded:
    """Return the usage with sorted runs laid over it, each cut at the ends of epochs."""
    grid = state.grid
    opened: dict[int, dict[DeviceLease, steps.Points[int]]] = {}
    device = lease = -1
    key = ("", "")
    held: LeaseState | None = None
    since = until = 0
    points: steps.Points[int] | None = None
    met = False
    for run in runs:
        if run[1] != lease or run[0] != device:
            device, lease = run[0], run[1]
            key = (devices[device], leases[lease])
            held = state.leases.get(key[1])  # gone where a part of a spool waited for weeks
            since = until = 0
        start, end, level = run[2], run[3], run[4]
        while start < end:
            if not since <= start < until:
                epoch = grid.epoch_of(start)
                since, until = grid.start(epoch), grid.end(epoch)
                points = _opened(state, opened, epoch, key) if held and is_kept(state, held, epoch) else None
            if points is not None and steps.lay(points, start, min(end, until), level):
                met = True
            start = until
    usage = state.usage
    for epoch, changed in opened.items():
        page = usage.get(epoch, Map()).mutate()
        for key, laid in changed.items():
            page[key] = laid.tobytes()
        usage = usage.set(epoch, page.finish())
    closed = frozenset(epoch for epoch in opened if state.first_live <= epoch < state.next_live)
    return Folded(usage, closed, met)


def _opened(
    state: Metering, opened: dict[int, dict[DeviceLease, steps.Points[int]]], epoch: int, key: DeviceLease
) -> steps.Points[int]:
    page = opened.get(epoch)
    if page is None:
        page = opened[epoch] = {}
    points = page.get(key)
    if points is None:
        points = page[key] = recorded(state.usage, epoch, key)
    return points


def recorded(usage: Mapping[int, Mapping[DeviceLease, bytes]], epoch: int, key: DeviceLease) -> steps.Points[int]:
    """Return what is recorded of a device and lease in an epoch."""
    page = usage.get(epoch)
    raw = page.get(key) if page is not None else None
    return steps.load(raw) if raw else array("q")

"""How a batch's runs fold into usage: which epochs they fall in, and what they lay over what is recorded."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from immutables import Map

from services.metering import steps
from services.metering.batches import Reading
from services.metering.grid import Grid
from services.metering.state import DeviceLease, LeaseState, Metering

Portion = tuple[int, int, int, int]
"""Epoch, start, end, level: a run, cut at the ends of epochs."""


def cut(run: Reading, grid: Grid) -> Sequence[Portion]:
    """Return a run cut at the ends of epochs."""
    _, _, start, end, level = run
    epoch, last = grid.epoch_of(start), grid.epoch_of(end - 1)
    if epoch == last:
        return ((epoch, start, end, level),)
    return [
        (number, max(start, grid.start(number)), min(end, grid.end(number)), level) for number in range(epoch, last + 1)
    ]


def is_kept(state: Metering, lease: LeaseState, epoch: int) -> bool:
    """Tell whether an epoch still takes readings of a lease: none that will never close, none that is forgotten."""
    if lease.fact.backfill is not None and epoch < state.first_live:
        return True
    return epoch >= state.first_kept


def fold(
    state: Metering, runs: Iterable[Reading], devices: Sequence[str], leases: Sequence[str]
) -> tuple[Map[int, Map[DeviceLease, bytes]], frozenset[int]]:
    """Return the usage with the runs laid over it, and the closed live epochs they fell in."""
    grid = state.grid
    opened: dict[int, dict[DeviceLease, steps.Points[int]]] = {}
    pair, key, lease = (-1, -1), ("", ""), None
    for run in runs:
        if (run[0], run[1]) != pair:
            pair = (run[0], run[1])
            key = (devices[run[0]], leases[run[1]])
            lease = state.leases[key[1]]
        assert lease is not None
        for epoch, start, end, level in cut(run, grid):
            if is_kept(state, lease, epoch):
                steps.lay(_opened(state, opened, epoch, key), start, end, level)
    usage = state.usage
    for epoch, changed in opened.items():
        page = usage.get(epoch, Map()).mutate()
        for key, points in changed.items():
            page[key] = points.tobytes()
        usage = usage.set(epoch, page.finish())
    closed = frozenset(epoch for epoch in opened if state.first_live <= epoch < state.next_live)
    return usage, closed


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

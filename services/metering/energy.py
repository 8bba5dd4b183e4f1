"""Energy and carbon of a node in an epoch (METERING "Carbon of use"). Exact fractions, rounded half-even once.

Readings of one meter are a set of intervals, so order, repetition and slicing cannot matter; where they disagree the
higher one counts: nobody looks cleaner for a second reading. Operations and declared idle are the meter's whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final

import msgspec
from immutables import Map

from events.metering import Carbon, Energy, NodeScore
from events.registry import Embodied
from events.registry_terms import KINDS, DeviceKind
from events.values import DAY_MS, HOUR_MS, round_half_even
from services.metering.batches import EnergyReading
from services.metering.state import Metering, Stated, mapped

MAX_AGE_MS: Final = 35 * DAY_MS
MAX_AHEAD_MS: Final = 300_000
MAX_METERS: Final = 64
"""Meters of a node in an epoch: its page of scores names them all, and has to fit in a record."""

MAX_MICRO_KWH: Final = 10**9
"""A thousand kilowatt-hours in one reading of at most an hour: a megawatt."""

WHOLE_PUE: Final = 1_000
_MICRO: Final = 1_000_000
Readings = frozenset[EnergyReading]
_METER: Final = re.compile(r"[a-z0-9][a-z0-9:._-]{0,63}\Z")


def energy_rejected(readings: Sequence[EnergyReading], node: str, state: Metering, now_ms: int) -> tuple[int, ...]:
    """Return the indexes of readings that count nothing.

    They are malformed, out of time, of an epoch that is closed, or of a meter beyond the first 64 of the node there.
    """
    rejected: list[int] = []
    meters: dict[int, set[str]] = {}
    for index, reading in enumerate(readings):
        if not _stands(reading, state, now_ms):
            rejected.append(index)
            continue
        touched = _epochs(state, reading)
        for epoch in touched:
            if epoch not in meters:
                meters[epoch] = {known[3] for known in mapped(state.energy, epoch).get(node, ())}
        if any(reading[3] not in meters[epoch] and len(meters[epoch]) >= MAX_METERS for epoch in touched):
            rejected.append(index)
            continue
        for epoch in touched:
            meters[epoch].add(reading[3])
    return tuple(rejected)


def _epochs(state: Metering, reading: EnergyReading) -> range:
    """Return the epochs that a reading touches."""
    return range(state.grid.epoch_of(reading[0]), state.grid.epoch_of(reading[1] - 1) + 1)


def _stands(reading: EnergyReading, state: Metering, now_ms: int) -> bool:
    start, end, micro_kwh, meter = reading
    return (
        0 < end - start <= HOUR_MS
        and now_ms - MAX_AGE_MS <= start
        and end <= now_ms + MAX_AHEAD_MS
        and 0 <= micro_kwh <= MAX_MICRO_KWH
        and _METER.match(meter) is not None
        and state.grid.epoch_of(start) >= state.next_live
    )


def fold_energy(state: Metering, node: str, readings: Iterable[EnergyReading]) -> Map[int, Map[str, Readings]]:
    """Return the energy of all epochs with a node's readings in every epoch they touch."""
    found: dict[int, set[EnergyReading]] = {}
    for reading in readings:
        for epoch in _epochs(state, reading):
            found.setdefault(epoch, set()).add(reading)
    energy = state.energy
    for epoch, more in found.items():
        of = mapped(energy, epoch)
        energy = energy.set(epoch, of.set(node, of.get(node, frozenset()) | more))
    return energy


def with_energy(
    state: Metering, epoch: int, scored: Mapping[DeviceKind, Sequence[NodeScore]]
) -> Mapping[DeviceKind, Sequence[NodeScore]]:
    """Return the scores of an epoch, by kind, with energy and carbon where meters read any.

    A node's whole energy stands once: at its first entry in the order of the kinds, or at one of GPUs that scores 0.
    """
    first = {score.node: kind for kind in reversed(KINDS) for score in scored.get(kind, ())}
    entries = {kind: {score.node: score for score in scored.get(kind, ())} for kind in KINDS}
    for node, readings in state.energy.get(epoch, Map()).items():
        history = state.stated.get(node)
        if history is None:
            continue
        stated, kind = history[-1], first.get(node, "gpu")
        found = entries[kind]
        score = found.get(node) or NodeScore(node, stated.owner, "0", "0", "0", "0", ())
        energy = _energy(state, epoch, readings, stated, score, kind)
        fields = {name: getattr(score, name) for name in score.__struct_fields__}
        carbon = energy.carbon
        found[node] = NodeScore(
            **fields
            | {
                "energy_micro_kwh": energy.meter_micro_kwh,
                "carbon_milligrams": carbon.milligrams if carbon else None,
                "carbon_factor": carbon.factor if carbon else None,
                "energy": energy,
            }
        )
    return {kind: [found[node] for node in sorted(found)] for kind, found in entries.items()}


def _energy(
    state: Metering, epoch: int, readings: Readings, stated: Stated, score: NodeScore, kind: DeviceKind
) -> Energy:
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    sources = sorted({reading[3] for reading in readings})
    total = sum((metered([one for one in readings if one[3] == source], start, end) for source in sources), Fraction())
    meter = round_half_even(total.numerator, total.denominator)
    offered, utilised = int(score.offered_milli_ms), int(score.utilised_milli_ms)
    operations = meter * min(utilised, offered) // offered if offered else 0
    return Energy(
        str(meter),
        str(operations),
        str(meter - operations),
        tuple(sources),
        stated.pue_milli,
        # Only GPUs have a rate: the energy of a node is not per core-hour what it is per GPU-hour.
        _carbon(state, meter, stated, end - start, int(score.micro_rgpu_hours) if kind == "gpu" else 0),
    )


def metered(readings: Iterable[EnergyReading], start: int, end: int) -> Fraction:
    """Return what one meter read in `[start, end)`, micro-kWh: evenly over each reading, the higher where two meet."""
    waiting = sorted((one for one in readings if one[0] < end and one[1] > start), reverse=True)
    edges = sorted({min(max(edge, start), end) for one in waiting for edge in one[:2]})
    active: list[tuple[Fraction, int]] = []  # the highest rate first; what has ended goes once it comes first
    total = Fraction()
    for since, until in pairwise(edges):
        while waiting and waiting[-1][0] <= since:
            first, last, micro_kwh, _ = waiting.pop()
            heappush(active, (Fraction(-micro_kwh, last - first), last))
        while active and active[0][1] <= since:
            heappop(active)
        if active:
            total -= active[0][0] * (until - since)
    return total


def _carbon(state: Metering, meter: int, stated: Stated, epoch_ms: int, micro_rgpu_hours: int) -> Carbon | None:
    assert state.rules is not None
    factor = next((one for one in (state.rules.rules.carbon_factors or ()) if one.zone == stated.zone), None)
    if factor is None:
        return None
    embodied = None if stated.embodied is None else embodied_milligrams(stated.embodied, epoch_ms)
    milligrams, low, high = (
        carbon_milligrams(meter, stated.pue_milli, grams) + (embodied or 0)
        for grams in (factor.grams_per_kwh, factor.low, factor.high)
    )
    sci = round_half_even(milligrams * _MICRO, micro_rgpu_hours) if micro_rgpu_hours else None
    return Carbon(
        str(milligrams),
        str(low),
        str(high),
        factor.id,
        factor.year,
        factor.method,
        None if sci is None else str(sci),
        msgspec.UNSET if embodied is None else str(embodied),
    )


def carbon_milligrams(micro_kwh: int, pue_milli: int | None, grams_per_kwh: int) -> int:
    """Return milligrams of CO2 equivalent: energy x PUE x intensity (Software Carbon Intensity 1.1, E x I)."""
    return round_half_even(micro_kwh * (pue_milli or WHOLE_PUE) * grams_per_kwh, WHOLE_PUE * 1_000)


def embodied_milligrams(embodied: Embodied, epoch_ms: int) -> int:
    """Return an epoch's part of what making a node emitted, milligrams: all of it x time reserved / lifetime (SCI's M).

    The whole machine is reserved for the whole epoch, as its meters' energy is the whole machine's.
    """
    return round_half_even(embodied.grams_co2e * 1_000 * epoch_ms, embodied.lifetime_hours * HOUR_MS)


def without_epoch(energy: Map[int, Map[str, Readings]], epoch: int) -> Map[int, Map[str, Readings]]:
    """Return the energy without an epoch that is closed and all before it."""
    for known in sorted(energy):
        if known <= epoch:
            energy = energy.delete(known)
    return energy

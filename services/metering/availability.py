"""Trials of availability (METERING "A"): one per hour of a node's stated window, from its activation on.

An hour succeeds with at least 57 of its 60 heartbeats, in a fact recorded within an hour of its end. An hour without
such a fact is a failure: silence never heals. Announced maintenance is no trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from events.registry import Window
from events.values import HOUR_MS
from services.metering.reliability import add_trial
from services.metering.state import Metering, Record, Stated, mapped

HEARTBEATS_NEEDED: Final = 57
DAY_HOURS: Final = 24
CAP_HOURS: Final = 30 * DAY_HOURS
"""The span over which announced maintenance is capped."""


def in_window(window: Window, hour: int) -> bool:
    """Tell whether an hour (since 1970) lies in a stated window; 0..24 is always."""
    length = window.to_hour - window.from_hour
    return length in {0, DAY_HOURS} or (hour - window.from_hour) % DAY_HOURS < length % DAY_HOURS


def judgeable(now_ms: int) -> int:
    """Return the first hour whose heartbeats may still be recorded: all before it can be judged."""
    return now_ms // HOUR_MS - 1


def with_hours_judged(state: Metering, now_ms: int) -> Metering:
    """Return the state with a trial for every hour of every node that can be judged by now and was not."""
    assert state.rules is not None
    until = judgeable(now_ms)
    if not state.rules.rules.availability_trials or not state.next_hour or until <= state.next_hour:
        return state
    sums: dict[tuple[str, int], list[int]] = {}
    held: dict[str, tuple[int, str]] = {}
    for node in state.stated:
        for hour, stated, good in _trials(state, node, until):
            tick = state.grid.tick_of((hour + 1) * HOUR_MS)
            for device in stated.devices:
                # Where two nodes state one device, the same one holds it whatever their order.
                held[device] = max((hour, stated.owner), held.get(device, (0, "")))
            for subject in (*stated.devices, stated.owner):
                sums.setdefault((subject, tick), [0, 0])[0 if good else 1] += 1
    records = state.records
    for (subject, tick), (won, lost) in sorted(sums.items()):
        record = records.get(subject, Record())
        trials = add_trial(record.availability, tick, won, lost, won + lost)
        owner = held[subject][1] if subject in held else None
        records = records.set(subject, replace(record, availability=trials, owner=owner))
    return _without_old(replace(state, records=records, next_hour=until), until)


def _trials(state: Metering, node: str, until: int) -> Iterator[tuple[int, Stated, bool]]:
    maintenance = state.maintenance.get(node, frozenset())
    recorded = mapped(state.hours, node)
    for hour in range(state.next_hour, until):
        stated = _stated_at(state.stated[node], hour)
        if stated is None or stated.window is None or hour in maintenance or not in_window(stated.window, hour):
            continue
        found = recorded.get(hour)
        yield hour, stated, found is not None and found.minutes.bit_count() >= HEARTBEATS_NEEDED


def _stated_at(history: Sequence[Stated], hour: int) -> Stated | None:
    return next((stated for stated in reversed(history) if stated.from_hour <= hour), None)


def _without_old(state: Metering, until: int) -> Metering:
    """Forget what no hour to come asks for."""
    stated = state.stated
    for node, history in state.stated.items():
        current = _stated_at(history, until)
        later = tuple(one for one in history if one.from_hour > until)
        if current is not None and (len(later) + 1 < len(history) or current.window is None):
            gone = current.window is None and not later
            stated = stated.delete(node) if gone else stated.set(node, (current, *later))
    maintenance = state.maintenance
    for node, hours in state.maintenance.items():
        kept = frozenset(hour for hour in hours if hour >= until - CAP_HOURS)
        maintenance = maintenance.set(node, kept) if kept else maintenance.delete(node)
    return replace(state, stated=stated, maintenance=maintenance)

"""Late readings: an hour's spool comes back in parts, and counts once it gives the hash that was recorded in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from events.metering import ReadingsRecorded, SpoolPart
from events.spool import spool_next, spool_start
from services.metering.batches import LateOf, spool_lines
from services.metering.errors import SpoolPartUnproved, TooManyOpenSpools
from services.metering.folding import Onto, fold_batch
from services.metering.state import LatePart, Metering, Spool, mapped

MOST_OPEN: Final = 24
"""Hours of one node that may wait for parts at a time: what waits is kept in memory."""


def judge_part(state: Metering, node: str, late: LateOf, part: LatePart) -> SpoolPart:
    """Return what a late batch is to its hour's spool.

    Raises SpoolPartUnproved unless the hour was recorded in time with that hash, TooManyOpenSpools.
    """
    hour = mapped(state.hours, node).get(late.hour)
    if hour is None or hour.spool_sha256 != late.spool_sha256:
        expected = hour.spool_sha256 if hour else None
        raise SpoolPartUnproved("no such hash was recorded in time for the hour", hour=late.hour, expected=expected)
    spool = with_part(state, node, late, part)
    whole = not hour.proved and proves(spool, node, late)
    waiting = mapped(state.spools, node)
    if not whole and not hour.proved and late.hour not in waiting and len(waiting) >= MOST_OPEN:
        raise TooManyOpenSpools("bring the parts of one hour to their end before the next", limit=MOST_OPEN)
    return SpoolPart(late.hour, late.part, late.parts, whole)


def with_part(state: Metering, node: str, late: LateOf, part: LatePart) -> Spool:
    """Return the hour's spool with one part more; the last of a part stands, another count of parts begins anew."""
    known = mapped(state.spools, node).get(late.hour)
    if known is None or known.parts != late.parts:
        known = Spool(late.parts)
    return replace(known, here=known.here.set(late.part, part))


def proves(spool: Spool, node: str, late: LateOf) -> bool:
    """Tell whether all parts are here and their lines, one after the other, give the hash."""
    if len(spool.here) < spool.parts:
        return False
    running = spool_start(node, late.hour)
    for part in range(spool.parts):
        for line in spool_lines(spool.here[part].jws):
            running = spool_next(running, line)
    return running.hex() == late.spool_sha256


def fold_part(state: Metering, fact: ReadingsRecorded, rejected: frozenset[int]) -> Metering:
    """Keep a part until its hour is whole; then lay the readings of the others too, and let the hour rest."""
    part = fact.spool
    assert part
    assert fact.spool_sha256 is not None
    hours = mapped(state.hours, fact.node)
    hour = hours[part.hour]
    if hour.proved:
        return state
    waiting = mapped(state.spools, fact.node)
    late = LateOf(part.hour, part.part, part.parts, fact.spool_sha256)
    spool = with_part(state, fact.node, late, LatePart(fact.jws, rejected))
    if not part.whole:
        return replace(state, spools=state.spools.set(fact.node, waiting.set(part.hour, spool)))
    for number, other in sorted(spool.here.items()):
        if number != part.part:
            folded = fold_batch(Onto(state, other.jws, other.rejected))
            state = replace(state, usage=folded.usage, touched=state.touched | folded.closed)
    waiting = waiting.delete(part.hour) if part.hour in waiting else waiting
    proved = hours.set(part.hour, replace(hour, proved=True))
    return replace(state, spools=state.spools.set(fact.node, waiting), hours=state.hours.set(fact.node, proved))


def answer_of(part: SpoolPart | None) -> Mapping[str, object]:
    """Return what a late batch is told: whether its hour counts now."""
    return {} if part is None else {"hour": part.hour, "part": part.part, "parts": part.parts, "whole": part.whole}

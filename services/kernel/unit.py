"""What waits for the writer: commands that are decided together, and the future their caller waits on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from events.store import Move
from events.telemetry import Meter, TraceNote
from services.kernel.errors import CommonsError
from services.kernel.group import Found, Request


@dataclass(frozen=True, slots=True)
class Accepted:
    """The durable answer: positions of its facts (0 when it needed none), JSON, and whether it is a repetition."""

    first: int
    last: int
    answer: bytes
    hit: bool
    time_us: int
    record_hash: bytes


@dataclass(eq=False, slots=True)
class Unit:
    """Commands that are decided together, all or none, with the checkpoint moves that go in their commit.

    `trace` is the traceparent of the span its caller waits in, empty where nobody traces.
    """

    requests: Sequence[Request]
    moves: Sequence[Move]
    done: asyncio.Future[Sequence[Accepted]]
    trace: str = ""


Answers = list[tuple[Unit, Found | CommonsError]]


def fail(units: Sequence[Unit], error: Exception) -> None:
    """Answer all who still wait with an error."""
    for unit in units:
        if not unit.done.done():
            unit.done.set_exception(error)


def trace_notes(answers: Answers) -> Sequence[TraceNote]:
    """Return which span each fact of a group was decided in."""
    return [
        TraceNote(outcome.first, outcome.last, unit.trace)
        for unit, found in answers
        if unit.trace and not isinstance(found, CommonsError)
        for outcome, hit in found
        if outcome.last and not hit
    ]


def tell(meter: Meter, service: str, answers: Answers, facts: int) -> None:
    """Count a group that was committed: its commands, its facts, and what was refused."""
    meter.observe("commons_group_commands", sum(len(unit.requests) for unit, _ in answers), service)
    meter.observe("commons_group_facts", facts, service)
    meter.count("commons_facts_appended", facts, service)
    for _, found in answers:
        if isinstance(found, CommonsError):
            meter.count("commons_refusals", 1, service, found.slug)

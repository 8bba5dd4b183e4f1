"""The promises of TraceNotes, over both adapters, and of the bus that gives followers what they keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from events.bus import Follower
from events.store import Checkpoint
from events.telemetry import TraceNote, TraceNotes, record_headers, traceparent_of
from infra.memory import MemoryStore
from infra.tail import TailBus
from infra.telemetry import notes as adapters
from infra.telemetry.following import TracedBus
from infra.telemetry.notes import MemoryTraceNotes, PostgresTraceNotes, open_notes
from tests.toy import Count, request, running


def parent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


@pytest.fixture(params=["memory", "postgres"])
async def notes(request: pytest.FixtureRequest) -> AsyncIterator[TraceNotes]:
    if request.param == "memory":
        yield MemoryTraceNotes()
        return
    async with open_notes(request.getfixturevalue("database")) as opened:
        assert isinstance(opened, PostgresTraceNotes)
        yield opened


async def test_what_was_noted_is_told_by_position(notes: TraceNotes) -> None:
    await notes.note("toy", 0, [TraceNote(1, 3, parent(1)), TraceNote(5, 5, parent(2))])
    await notes.note("toy", 5, [TraceNote(6, 9, parent(3))])
    assert await notes.noted("toy", 1, 6) == {2: parent(1), 3: parent(1), 5: parent(2), 6: parent(3)}
    assert await notes.noted("toy", 9, 100) == {}
    assert await notes.noted("other", 0, 100) == {}


async def test_notes_of_a_commit_that_never_was_give_way_to_the_next_ones(notes: TraceNotes) -> None:
    await notes.note("toy", 0, [TraceNote(1, 1, parent(1))])
    await notes.note("toy", 1, [TraceNote(2, 4, parent(2))])  # its transaction was rolled back
    await notes.note("toy", 1, [TraceNote(3, 3, parent(3))])
    assert await notes.noted("toy", 0, 10) == {1: parent(1), 3: parent(3)}
    await notes.note("toy", 1, [])
    assert await notes.noted("toy", 0, 10) == {1: parent(1)}


async def test_old_notes_are_let_go(notes: TraceNotes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "MOST_NOTES", 10)
    for number in range(5):
        after = number * 500
        await notes.note("toy", after, [TraceNote(at, at, parent(1)) for at in range(after + 1, after + 501)])
    left = await notes.noted("toy", 0, 2_500)
    assert max(left) == 2_500
    assert len(left) <= 510


async def test_a_database_that_is_away_costs_notes_and_raises_nothing(database: str) -> None:
    async with open_notes(database) as opened:
        pass
    await opened.note("toy", 0, [TraceNote(1, 1, parent(1))])
    assert await opened.noted("toy", 0, 1) == {}


async def test_a_follower_is_given_the_trace_of_each_record() -> None:
    store, kept = MemoryStore("toy"), MemoryTraceNotes()
    async with running(store) as appender:
        for number in (1, 2, 3):
            await appender.submit(request(Count("a"), str(number)))
    await kept.note("toy", 1, [TraceNote(2, 2, parent(7))])

    async def checkpoints() -> Mapping[str, Checkpoint]:
        return {}

    bus = TracedBus(TailBus({"toy": store}), kept)
    subscription = await bus.subscribe(Follower("view/a", ["toy"], checkpoints))
    page = await subscription.fetch(1)
    assert page is not None
    assert (len(page.records), page.traces) == (3, {2: parent(7)})
    assert await subscription.lag() == {"toy": 0}
    await subscription.close()


def test_a_record_of_kafka_carries_its_trace_in_a_header() -> None:
    assert traceparent_of([("content-type", b"x"), *record_headers(parent(5))]) == parent(5)
    assert record_headers("") == []
    assert traceparent_of([("traceparent", b"\xff")]) == traceparent_of([]) == ""

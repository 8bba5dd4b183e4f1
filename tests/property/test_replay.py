"""Replay equals live: shuffled across streams, delivered twice, restarted, failing in the middle, on many channels."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from eventsourcing.persistence import Notification
from hypothesis import given, settings
from hypothesis import strategies as st

from events.bus import Follower, Page
from events.facts import catalog
from events.store import StoreUnavailable
from infra.memory import MemoryStore
from infra.memory_views import MemoryViews, MemoryWriter
from infra.tail import TailBus
from projections.catalog import views
from projections.rebuild import rebuild
from projections.repair import Repair, RepairReport
from projections.runner import ViewRunner
from projections.view import View
from tests.history import History, a_community
from tests.poison import KINDS, poisoned

SERVICES = ("registry", "metering", "treasury")


@dataclass
class Partitions:
    """A bus with several channels per service: order holds within a stream only, and pages come again."""

    channels: Mapping[str, Sequence[Notification]]
    draw: Random
    positions: dict[str, int] = field(default_factory=dict)

    async def subscribe(self, follower: Follower) -> Partitions:
        start = await follower.checkpoints()
        mine = {name: records for name, records in self.channels.items() if name.split("/")[0] in follower.services}
        reached = {name: start[name].position if name in start else 0 for name in mine}
        return Partitions(mine, self.draw, {name: count(mine[name], reached[name]) for name in mine})

    async def fetch(self, timeout_seconds: float) -> Page | None:
        left = [name for name, records in self.channels.items() if self.positions[name] < len(records)]
        if not left:
            return None
        name = self.draw.choice(left)
        before = self.positions[name]
        if self.draw.random() < 0.3:
            before = self.draw.randrange(before + 1)  # at least once: some of it was delivered before
        last = min(before + self.draw.randrange(1, 30), len(self.channels[name]))
        self.positions[name] = max(self.positions[name], last)
        records = self.channels[name][:last]
        return Page(name, records[before - 1].id if before else 0, records[-1].id, records[before:])

    async def lag(self) -> Mapping[str, int]:
        return {name: len(records) - self.positions[name] for name, records in self.channels.items()}

    async def close(self) -> None:
        self.channels = {}


def count(records: Sequence[Notification], position: int) -> int:
    return sum(record.id <= position for record in records)


class FlakyViews(MemoryViews):
    """Views whose database goes away before some commits."""

    def __init__(self, draw: Random) -> None:
        super().__init__()
        self.draw = draw

    @asynccontextmanager
    async def writing(self, view: View) -> AsyncIterator[MemoryWriter]:
        async with super().writing(view) as writer:
            yield writer
            if self.draw.random() < 0.1:
                raise StoreUnavailable("gone before the commit")


async def partitioned(stores: Mapping[str, MemoryStore], partitions: int, draw: Random) -> Partitions:
    channels: dict[str, list[Notification]] = {}
    for service, store in stores.items():
        for record in await store.read(0, 10**9):
            number = zlib.crc32(str(record.originator_id).encode()) % partitions
            channels.setdefault(f"{service}/{number}", []).append(record)
    return Partitions(channels, draw)


async def follow(view: View, kept: MemoryViews, bus: Partitions | TailBus, draw: Random) -> str:
    """Follow to the end with restarts in between; return the view's hash."""
    await kept.prepare(view)
    done = False
    while not done:
        runner = ViewRunner(view, kept, bus, catalog())
        subscription = await runner.subscribe()
        try:
            while draw.random() > 0.05:
                page = await subscription.fetch(0)
                if page is None:
                    done = True
                    break
                await runner.take(page)
        except StoreUnavailable:
            continue
    async with kept.reading(view) as snapshot:
        return await snapshot.digest(view)


async def recorded(steps: int, draw: Random) -> dict[str, MemoryStore]:
    stores = {service: MemoryStore(service, clock=lambda: 1_760_000_000_000_000) for service in SERVICES}
    await History(stores).record(*a_community(draw, steps))
    return stores


@settings(max_examples=40, deadline=None)
@given(steps=st.integers(0, 120), partitions=st.integers(1, 7), seed=st.integers(0, 2**32))
def test_replay_equals_live_on_any_number_of_channels(steps: int, partitions: int, seed: int) -> None:
    async def check() -> None:
        draw = Random(seed)
        stores = await recorded(steps, draw)
        for view in views():
            bus = await partitioned(stores, partitions, draw)
            kept = FlakyViews(draw)
            live = await follow(view, kept, bus, draw)
            replayed = await rebuild(view, MemoryViews(), stores, catalog())
            assert live == replayed.hash_after, view.name
            assert await kept.alarms() == []

    asyncio.run(check())


@settings(max_examples=15, deadline=None)
@given(steps=st.integers(0, 120), seed=st.integers(0, 2**32))
def test_replay_equals_live_on_the_tail(steps: int, seed: int) -> None:
    async def check() -> None:
        draw = Random(seed)
        stores = await recorded(steps, draw)
        for view in views():
            kept = FlakyViews(draw)
            live = await follow(view, kept, TailBus(stores), draw)
            replayed = await rebuild(view, kept, stores, catalog())
            assert replayed.equal, view.name
            assert replayed.hash_before == replayed.hash_after == live

    asyncio.run(check())


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(10, 80), partitions=st.integers(1, 5), seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
def test_parked_facts_folded_after_a_repair_give_what_a_clean_rebuild_gives(
    steps: int, partitions: int, seed: int, kind: str
) -> None:
    async def check() -> None:
        draw = Random(seed)
        stores = await recorded(steps, draw)
        for view in (view for view in views() if view.handlers):
            heads = {service: (await stores[service].head()).position for service in view.services}
            bad = {(service, draw.randrange(1, head + 1)) for service, head in heads.items() if head for _ in range(3)}
            kept = FlakyViews(draw)
            live = await follow(poisoned(view, bad, kind), kept, await partitioned(stores, partitions, draw), draw)
            choked = await rebuild(poisoned(view, bad, kind), MemoryViews(), stores, catalog())
            assert live == choked.hash_after, view.name
            assert (await kept.parked_counts()).get(view.follower, 0) == choked.parked
            assert choked.parked or not await kept.alarms()
            partly = set(draw.sample(sorted(bad), len(bad) // 2))
            for fewer in (partly, set[tuple[str, int]]()):
                while (report := await repaired(poisoned(view, fewer, kind), kept, stores)) is None:
                    pass
            assert (report.parked, await kept.alarms()) == (0, []), view.name
            async with kept.reading(view) as snapshot:
                mended = await snapshot.digest(view)
            assert mended == (await rebuild(view, MemoryViews(), stores, catalog())).hash_after, view.name

    asyncio.run(check())


async def repaired(view: View, kept: MemoryViews, stores: Mapping[str, MemoryStore]) -> RepairReport | None:
    """Repair once; None when the database went away in the middle."""
    try:
        return await Repair(view, kept, stores, catalog()).run()
    except StoreUnavailable:
        return None


def test_a_history_holds_a_fact_of_every_type_that_views_handle() -> None:
    told = {type(fact) for _, fact in a_community(Random(1), 400)}
    handled = {fact for view in views() for fact in view.handlers}
    assert handled <= told

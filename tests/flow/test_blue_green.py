"""A view is rebuilt, or its next version built, while readers and writers go on: no failed read, no wrong read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from random import Random

import pytest

from events.facts import catalog
from events.store import StoreUnavailable
from infra.postgres import view_building
from infra.postgres.pool import open_pool
from infra.postgres.views import PostgresViews
from infra.tail import TailBus
from projections import balances, rebuild
from projections.catalog import views
from projections.queries import ViewReader
from projections.rebuild import Rebuild
from projections.routes import NotCaughtUp, QueryContext
from projections.runner import ViewRunner
from projections.store import Select, ViewNotBuilt, ViewStore
from projections.versions import make_versions
from projections.view import View
from tests import history
from tests.following import World, open_world


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as opened:
        yield opened


@dataclass
class Load:
    """What readers and a writer did beside a rebuild."""

    reads: int = 0
    longest: float = 0.0
    written: int = 0
    over: bool = False

    async def read(self, store: ViewStore, view: View) -> None:
        """Read again and again; every answer must be the state at the position it names."""
        seen = 0
        while True:
            began = time.monotonic()
            async with store.reading(view) as snapshot:
                first = {row.account: row.balance for row in await snapshot.select(Select(balances.ACCOUNTS))}
                await asyncio.sleep(0)
                position = (await snapshot.checkpoints(view))["treasury"].position
                again = {row.account: row.balance for row in await snapshot.select(Select(balances.ACCOUNTS))}
            assert first == again == {"a": -position, "b": position}
            assert position >= seen, "an answer older than the one before"
            seen = position
            self.reads += 1
            self.longest = max(self.longest, time.monotonic() - began)

    async def write(self, world: World) -> None:
        while not self.over:  # not cut off: a fact that was not appended would leave a hole in the history's versions
            facts = [history.posted("a", "b", 1, number) for number in range(20)]
            await world.history.record(*facts)
            self.written += len(facts)
            await asyncio.sleep(0.005)


@asynccontextmanager
async def load(world: World, view: View, readers: int = 4) -> AsyncIterator[Load]:
    """Let readers and a writer work; whatever one of them meets comes out here."""
    made = Load()
    tasks = [asyncio.create_task(made.read(world.views, view)) for _ in range(readers)]
    writing = asyncio.create_task(made.write(world))
    try:
        yield made
    finally:
        made.over = True
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await writing
    assert [each for each in found if not isinstance(each, asyncio.CancelledError)] == []


@pytest.mark.parametrize("rounds", [6, pytest.param(40, marks=pytest.mark.soak)])
async def test_no_read_fails_or_is_wrong_while_a_view_is_rebuilt_again_and_again_under_load(
    world: World, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 50)
    await world.history.record(*(history.posted("a", "b", 1, number) for number in range(1_000)))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
        async with load(world, balances.VIEW) as made:
            for _ in range(rounds):
                report = await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())
                assert report.equal, report
        await world.caught_up(balances.VIEW)
    assert made.reads > 10 * rounds
    assert made.written > 10 * rounds
    assert made.longest < 5
    assert (await Rebuild(balances.VIEW, world.views, world.stores, catalog()).check()).equal


async def test_a_long_reader_delays_the_swap_and_no_other_reader(world: World) -> None:
    await world.history.record(*(history.posted("a", "b", 1, number) for number in range(10)))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
        async with load(world, balances.VIEW, readers=2) as made:
            async with world.views.reading(balances.VIEW) as dump:
                first = await dump.digest(balances.VIEW)
                swapping = asyncio.create_task(
                    rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog()),
                )
                await asyncio.sleep(0.7)
                before, _ = made.reads, await asyncio.sleep(0.5)
                assert made.reads > before + 5
                assert not swapping.done()
                assert await dump.digest(balances.VIEW) == first
            assert (await swapping).equal
    assert made.longest < 5  # the dump held the tables for longer than a reader waits for one attempt


async def test_readers_who_never_end_make_the_swap_give_up_and_leave_all_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_building, "PATIENCE_MS", (20, 20))
    await world.history.record(history.posted("a", "b", 1))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
        async with world.views.reading(balances.VIEW) as dump:
            await dump.digest(balances.VIEW)
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())
        assert (await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())).equal


@asynccontextmanager
async def software(world: World, view: View) -> AsyncIterator[None]:
    """Run what a process with this version of the view runs."""
    versions = make_versions(world.views, world.stores, catalog())
    runner = ViewRunner(view, world.views, TailBus(world.stores), catalog(), versions.make)
    task = asyncio.create_task(runner.run())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def standing(world: World, view: View) -> bool:
    return await world.views.stands(view)


async def test_a_new_version_is_built_beside_the_old_one_which_serves_until_it_is_swapped_in(world: World) -> None:
    old = replace(balances.VIEW, name="versioned", version=1)
    new = replace(old, version=2)
    await world.history.record(*(history.posted("a", "b", 1, number) for number in range(3_000)))
    reader = ViewReader(world.views, wait_seconds=0.05)
    async with software(world, old):
        await world.caught_up(old)
        assert await standing(world, old)
    with pytest.raises(NotCaughtUp, match=r"version 2.* is being built"):
        async with reader.moment(new, QueryContext(None, {})):
            pass
    async with world.views.rebuilding(new):  # another process is building it: this one waits
        async with software(world, new), load(world, old) as made:
            await asyncio.sleep(0.3)
            assert not await standing(world, new)
            assert await standing(world, old)
        assert made.reads
    async with software(world, new):
        waiting = ViewReader(world.views, wait_seconds=20)
        async with waiting.moment(new, QueryContext(None, {})) as moment:
            assert moment.positions["treasury"] >= 3_000
            (found,) = await moment.snapshot.select(Select(balances.ACCOUNTS, (("account", "=", "b"),)))
            assert found.balance == moment.positions["treasury"]
        async with load(world, new):
            while await standing(world, old):
                await asyncio.sleep(0.02)
        assert await world.views.checkpoints(old.follower) == {}
        with pytest.raises(ViewNotBuilt):
            async with world.views.reading(old):
                pass


async def test_a_view_over_an_empty_store_can_be_read_at_once(world: World) -> None:
    fresh = replace(balances.VIEW, name="fresh", version=1)
    versions = make_versions(world.views, world.stores, catalog())
    assert await versions.open(fresh)
    async with ViewReader(world.views, 0.0).moment(fresh, QueryContext(None, {})) as moment:
        assert moment.positions == {"treasury": 0}
    await world.history.record(history.minted("a", 1))
    assert not await versions.open(replace(fresh, version=2))


async def test_many_rebuilds_at_once_on_few_connections_all_end_and_followers_go_on(database: str) -> None:
    async with open_world(database) as world:
        await world.history.record(*history.a_community(Random(5), 300))
        pool = await open_pool(database, size=2)
        narrow = World(world.stores, PostgresViews(pool), world.history)
        async with narrow.following():
            async with asyncio.timeout(60):
                reports = await asyncio.gather(
                    *(rebuild.rebuild(view, narrow.views, narrow.stores, catalog()) for view in views())
                )
                assert [report.view for report in reports] == [view.name for view in views()]
                await narrow.history.record(history.minted("pool/community", 1))
                await narrow.caught_up()
        await pool.close()


async def test_a_check_finds_what_was_tampered_with_names_it_and_changes_nothing(world: World) -> None:
    await world.history.record(history.minted("a", 100), *(history.posted("a", "b", 1, n) for n in range(50)))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
        async with world.views.writing(balances.VIEW) as writer:
            await writer.write(balances.ACCOUNTS, [balances.Account("b", balance=10**6), balances.Account("c")])
        tampered = await world.digest(balances.VIEW)
        for _ in range(2):
            report = await Rebuild(balances.VIEW, world.views, world.stores, catalog()).check()
            assert (report.equal, report.swapped, report.hash_before) == (False, False, tampered)
            assert [(each.table, each.live is None, each.rebuilt is None) for each in report.differences] == [
                ("accounts", False, False),
                ("accounts", False, True),
            ]
        assert await world.digest(balances.VIEW) == tampered
        await world.history.record(history.posted("a", "b", 1, 51))
        await world.caught_up(balances.VIEW)
        assert not (await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())).equal
        report = await Rebuild(balances.VIEW, world.views, world.stores, catalog()).check()
        assert (report.equal, report.differences) == (True, ())


async def test_a_check_of_a_view_that_was_never_built_says_so(world: World) -> None:
    with pytest.raises(ViewNotBuilt):
        await Rebuild(replace(balances.VIEW, name="unbuilt"), world.views, world.stores, catalog()).check()

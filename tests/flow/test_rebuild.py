"""Views rebuilt, poisoned, rewound: what a rebuild proves, and when a view stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from eventsourcing.persistence import StoredEvent

from events.catalog import UpgradeNeeded
from events.facts import catalog
from events.store import Checkpoint, Move, StoreRewound
from projections import audit_trail, balances, rebuild
from projections.catalog import views
from tests import history
from tests.following import World, open_world
from tests.history import member


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as opened:
        yield opened


async def test_rebuilding_any_view_gives_the_hash_of_the_live_one_while_facts_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 10)
    story = list(history.a_community(Random(7), 150))
    await world.history.record(*story[:60])
    async with world.following():
        await world.caught_up()
        going_on = asyncio.create_task(world.history.record(*story[60:]))
        steps: list[rebuild.Progress] = []
        for view in views():
            report = await rebuild.rebuild(view, world.views, world.stores, catalog(), steps.append)
            assert report.equal, report
            assert report.hash_before == report.hash_after != ""
            assert report.facts == sum(report.positions.values())
        await going_on
        await world.caught_up()
        assert steps
        assert all(0 < step.done <= step.total for step in steps)
        for view in views():
            before = await world.digest(view)
            report = await rebuild.rebuild(view, world.views, world.stores, catalog())
            assert (report.equal, report.hash_after, await world.digest(view)) == (True, before, before)


async def test_a_tampered_view_is_found_and_healed_by_a_rebuild(world: World) -> None:
    await world.history.record(history.minted("a", 100), history.posted("a", "b", 1))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
        async with world.views.writing(balances.VIEW) as writer:
            await writer.write(balances.ACCOUNTS, [balances.Account("b", balance=10**6)])
        report = await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())
        assert not report.equal
        assert report.hash_before
        assert (await world.ask("balances.one", account="b")).body["balance"] == "1"
        assert (await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())).equal


async def test_a_view_that_never_ran_is_built_to_the_head_and_followed_from_there(world: World) -> None:
    await world.history.record(*history.a_community(Random(3), 40))
    heads = await world.heads()
    for view in views():
        report = await rebuild.rebuild(view, world.views, world.stores, catalog())
        assert report.positions == {service: heads[service] for service in view.services}
        assert not report.hash_before
    await world.history.record(history.posted("pool/community", member(1), 12345, 9_999))
    async with world.following():
        await world.caught_up()
    live = {view.name: await world.digest(view) for view in views()}
    for view in views():
        report = await rebuild.rebuild(view, world.views, world.stores, catalog())
        assert (report.equal, report.hash_after) == (True, live[view.name])


async def test_a_rebuild_with_less_memory_than_rows_gives_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.history.record(*history.a_community(Random(11), 120))
    monkeypatch.setattr(rebuild, "PAGE", 20)
    expected = {
        view.name: (await rebuild.rebuild(view, world.views, world.stores, catalog())).hash_after for view in views()
    }
    monkeypatch.setattr(rebuild, "MAX_ROWS", 5)
    for view in views():
        report = await rebuild.rebuild(view, world.views, world.stores, catalog())
        assert (report.equal, report.hash_after) == (True, expected[view.name])


async def test_a_fact_of_an_unknown_type_stops_every_view_that_meets_it(world: World) -> None:
    async with world.stores["treasury"].session() as session:
        await session.append([StoredEvent("book/COMPUTE", 1, "treasury.moon-landed.v9", b"{}")])
    for view in (balances.VIEW, audit_trail.VIEW):
        with pytest.raises(UpgradeNeeded):
            await asyncio.wait_for(world.runner(view).run(), 10)


async def test_a_restored_older_store_stops_the_view_and_a_rebuild_accepts_it(world: World) -> None:
    await world.history.record(history.minted("a", 100), history.minted("a", 11))
    async with world.views.writing(balances.VIEW) as writer:
        await writer.move([Move(0, Checkpoint(balances.VIEW.follower, "treasury", 7, b"of a lost record"))])
    with pytest.raises(StoreRewound):
        await asyncio.wait_for(world.runner(balances.VIEW).run(), 10)
    report = await rebuild.rebuild(balances.VIEW, world.views, world.stores, catalog())
    assert (report.positions, report.hash_before, report.equal) == ({"treasury": 2}, "", False)
    async with world.following(balances.VIEW):
        await world.history.record(history.minted("a", 1))
        assert (await world.ask("balances.one", account="a")).body["balance"] == "112"

"""A fact that cannot be folded is parked with its stream and alarmed, others go on, and a repair makes all good."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from eventsourcing.persistence import StoredEvent

from events import registry
from events.catalog import UpgradeNeeded
from events.envelope import Draft, fact_id, open_record
from events.facts import catalog
from events.parked import Parked
from infra.tail import TailBus
from projections import balances, nodes
from projections.lag import lag
from projections.rebuild import Rebuild, RebuildReport, rebuild
from projections.repair import RecordGone, Repair, RepairReport
from projections.view import View
from tests import history
from tests.followers import follower
from tests.following import World, open_world
from tests.history import Entry, node
from tests.poison import KINDS, poisoned

NODES = 20


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as opened:
        yield opened


def labelled(number: int, step: int) -> Entry:
    return node(number), registry.NodeLabelled(node(number), f"label {step}")


async def labels(world: World, facts: int) -> None:
    """Record that many facts of a few nodes, in turn."""
    await world.history.record(*(history.registered(number, number) for number in range(NODES)))
    for start in range(NODES, facts, 5_000):
        steps = range(start, min(start + 5_000, facts))
        await world.history.record(*(labelled(step % NODES, step) for step in steps))


async def repair(world: World, view: View) -> RepairReport:
    return await Repair(view, world.views, world.stores, catalog()).run()


async def clean(world: World, view: View) -> RebuildReport:
    """Return what a clean rebuild gives, and change nothing."""
    return await Rebuild(view, world.views, world.stores, catalog()).check()


async def alarms(world: World) -> Sequence[Parked]:
    return await world.views.alarms()


async def parked(world: World, view: View) -> int:
    return (await world.views.parked_counts()).get(view.follower, 0)


@pytest.mark.parametrize("facts", [10_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_others_go_on_past_a_poisonous_fact_and_after_repair_the_view_equals_a_clean_rebuild(
    world: World, facts: int, caplog: pytest.LogCaptureFixture
) -> None:
    middle = facts // 2
    choking = poisoned(nodes.VIEW, {("registry", middle)}, "update")
    await labels(world, facts)
    bad = node((middle - 1) % NODES)
    with caplog.at_level(logging.ERROR):
        async with world.following(choking):
            await world.caught_up(choking)
            (alarm,) = await alarms(world)
            assert (alarm.service, alarm.position, alarm.stream) == ("registry", middle, bad)
            assert alarm.error == "Choked: in the middle of a row"
            assert await parked(world, choking) == len(range(middle, facts + 1, NODES))
            found = (await world.ask("nodes.list", limit=1_000)).body["items"]
            shown = {row["node"]: row["label"] for row in found}
            assert shown.pop(bad) == f"label {middle - 1 - NODES}"
            assert shown == {node(n): f"label {facts - NODES + n}" for n in range(NODES) if node(n) != bad}
            rows = await lag(world.stores, [choking], world.views, [])
            assert {(row.behind, row.parked) for row in rows} == {(0, await parked(world, choking))}
    assert [bad in message and "views repair nodes" in message for message in caplog.messages] == [True]
    # The fold is repaired and the follower runs again; only the repair takes up what is parked.
    async with world.following(nodes.VIEW):
        await world.history.record(labelled((middle - 1) % NODES, facts), labelled(0, facts + 1))
        await world.caught_up(nodes.VIEW)
        assert await parked(world, nodes.VIEW) == len(range(middle, facts + 1, NODES)) + 1
        report = await repair(world, nodes.VIEW)
        assert (report.folded, report.parked, report.alarms) == (len(range(middle, facts + 1, NODES)) + 1, 0, [])
        await world.history.record(labelled((middle - 1) % NODES, facts + 2))
        await world.caught_up(nodes.VIEW)
    assert await alarms(world) == []
    report_clean = await clean(world, nodes.VIEW)
    assert (report_clean.equal, report_clean.parked, report_clean.differences) == (True, 0, ())


@pytest.mark.parametrize("kind", KINDS)
async def test_every_way_a_fold_can_fail_parks_the_fact_and_leaves_no_trace_of_it(world: World, kind: str) -> None:
    bad = {("registry", position) for position in (25, 26, 47, 60)}
    choking = poisoned(nodes.VIEW, bad, kind)
    await labels(world, 70)
    async with world.following(choking):
        await world.caught_up(choking)
    # 25 and 26 begin two streams' wait, which takes 45 and 65, 46 and 66 along; 47 and 67 belong to a third stream.
    assert [each.position for each in await alarms(world)] == [25, 26, 47, 60]
    assert await parked(world, choking) == 3 + 3 + 2 + 1
    live = await world.digest(choking)
    report = await rebuild(choking, world.views, world.stores, catalog())
    assert (report.equal, report.hash_after, report.parked) == (True, live, 9)
    assert [each.position for each in await alarms(world)] == [25, 26, 47, 60]
    half = poisoned(nodes.VIEW, {("registry", 45), ("registry", 60)}, kind)
    second = await repair(world, half)
    assert (second.folded, second.parked) == (6, 3)
    assert [each.position for each in second.alarms] == [45, 60]
    assert (await repair(world, nodes.VIEW)).parked == 0
    assert (await clean(world, nodes.VIEW)).equal


async def test_a_record_that_does_not_fit_its_type_is_parked_and_shown_with_what_is_wrong(world: World) -> None:
    await labels(world, 40)
    await append_nonsense(world, node(3), registry.NodeLabelled.TYPE, b'{"label":7}')
    await world.history.record(labelled(4, 41))
    async with world.following(nodes.VIEW):
        await world.caught_up(nodes.VIEW)
    (alarm,) = await alarms(world)
    assert (alarm.position, alarm.type, alarm.parked_us > 0) == (41, registry.NodeLabelled.TYPE, True)
    assert alarm.error.startswith("ValidationError: ")
    assert (await repair(world, nodes.VIEW)).parked == 1
    assert (await clean(world, nodes.VIEW)).equal


async def append_nonsense(world: World, stream: str, type_name: str, data: bytes) -> None:
    key = (stream, world.history.versions.get(("registry", stream), 0) + 1)
    world.history.versions["registry", stream] = key[1]
    draft = Draft(
        id=fact_id(stream.encode(), key[1]),
        source="https://test.example/registry",
        type=type_name,
        subject=stream,
        data=data,
        actor=history.member(0),
        commandid="00",
    )
    async with world.stores["registry"].session() as session:
        await session.append([StoredEvent(stream, key[1], type_name, open_record(draft))], seal=history.seal)


async def test_a_number_the_database_cannot_hold_parks_the_book_from_there_on(world: World) -> None:
    most = 2**63 - 1
    await world.history.record(*(history.posted("a", "b", amount, amount) for amount in (1, 2, most, 3)))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
    answer = await world.ask("balances.one", account="b", at_least={})
    assert (answer.body["balance"], answer.positions) == ("3", {"treasury": 4})
    assert [(each.position, each.stream) for each in await alarms(world)] == [(3, "book/COMPUTE")]
    assert (await repair(world, balances.VIEW)).parked == 2
    report = await clean(world, balances.VIEW)
    assert (report.equal, report.parked) == (True, 2)


async def test_facts_before_an_unknown_type_are_committed_and_nothing_of_what_follows_is(world: World) -> None:
    await world.history.record(*(history.posted("a", "b", 1, number) for number in range(5)))
    async with world.stores["treasury"].session() as session:
        await session.append([StoredEvent("book/COMPUTE", 6, "treasury.moon-landed.v9", b"{}")])
    world.history.versions["treasury", "book/COMPUTE"] = 6
    await world.history.record(history.posted("a", "b", 1, 7))
    subscription = await TailBus(world.stores).subscribe(follower(["treasury"]))
    page = await subscription.fetch(5)
    assert page is not None
    assert len(page.records) == 7
    for _ in range(2):
        with pytest.raises(UpgradeNeeded, match=r"moon-landed\.v9.*upgrade this software"):
            await world.runner(balances.VIEW).run()
        answer = await world.ask("balances.one", account="b", at_least={})
        assert (answer.body["balance"], answer.positions) == ("5", {"treasury": 5})
    assert await alarms(world) == []


async def test_a_repair_stops_when_a_parked_record_is_not_in_its_store(world: World) -> None:
    lost = Parked(nodes.VIEW.follower, "registry", 99, "registry", "s", "registry.node-labelled.v1", "why", first=True)
    async with world.views.writing(nodes.VIEW) as writer:
        await writer.park([lost])
    with pytest.raises(RecordGone, match="rebuild the view"):
        await repair(world, nodes.VIEW)
    assert [replace(each, parked_us=0) for each in await alarms(world)] == [lost]

"""Views follow facts on a real database: live, asked, rebuilt, poisoned, rewound."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from events.catalog import Recorded, UpgradeNeeded
from events.facts import catalog
from events.store import Checkpoint, CheckpointMoved, Move, Store, StoreRewound
from infra.postgres.pool import open_pool
from infra.postgres.store import open_stores
from infra.postgres.views import PostgresViews
from infra.tail import TailBus
from projections import audit_trail, balances, epochs, members, nodes, rebuild, scores, usage
from projections.catalog import routes, views
from projections.lag import Lag, PolicyPlace, lag
from projections.queries import ViewReader
from projections.routes import Answer, NotCaughtUp, NothingThere, QueryContext
from projections.runner import ViewRunner
from projections.store import ViewStore
from projections.view import Change, View
from tests import history
from tests.history import History, member, node

SERVICES = ("registry", "metering", "treasury")


@dataclass
class World:
    """Stores with a history, views over them, and the queries."""

    stores: Mapping[str, Store]
    views: ViewStore
    history: History

    def runner(self, view: View) -> ViewRunner:
        return ViewRunner(view, self.views, TailBus(self.stores), catalog())

    @asynccontextmanager
    async def following(self, *followed: View) -> AsyncIterator[list[ViewRunner]]:
        runners = [self.runner(view) for view in followed or views()]
        tasks = [asyncio.create_task(runner.run()) for runner in runners]
        try:
            yield runners
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def heads(self) -> dict[str, int]:
        return {name: (await store.head()).position for name, store in self.stores.items()}

    async def ask(
        self, name: str, *, at_least: Mapping[str, int] | None = None, wait: float = 20, **given: Any
    ) -> Answer:
        async def record(service: str, position: int) -> bytes | None:
            found = await self.stores[service].read(position - 1, 1)
            return found[0].state if found else None

        route = {route.name: route for route in routes(ViewReader(self.views, wait), record)}[name]
        wanted = await self.heads() if at_least is None else at_least
        return await route.handle(route.params(**given), QueryContext(None, wanted))

    async def digest(self, view: View) -> str:
        async with self.views.reading(view) as snapshot:
            return await snapshot.digest(view)

    async def caught_up(self, *followed: View) -> None:
        """Wait until the views reflect everything."""
        heads = await self.heads()
        async with asyncio.timeout(30):
            for view in followed or views():
                while True:
                    found = await self.views.checkpoints(view.follower)
                    if all(
                        found[name].position >= heads[name] for name in view.services if heads[name] and name in found
                    ):
                        if {name for name in view.services if heads[name]} <= found.keys():
                            break
                    await asyncio.sleep(0.02)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_stores(database, SERVICES) as stores:
        pool = await open_pool(database, size=8)
        kept = PostgresViews(pool)
        for view in views():
            await kept.prepare(view)
        yield World(stores, kept, History(stores))
        await pool.close()


async def test_balances_follow_the_book_and_name_the_position_they_reflect(world: World) -> None:
    async with world.following(balances.VIEW):
        await world.history.record(
            history.opened(member(1), member(1)),
            history.minted(member(1), 100),
            history.posted(member(1), member(2), 30),
            history.posted(member(2), member(1), 4),
        )
        answer = await world.ask("balances.one", account=member(1))
        assert answer.body == {
            "account": member(1),
            "owner": member(1),
            "kind": "member",
            "balance": "74",
            "credited": "104",
            "debited": "30",
            "position": "4",
            "closed": False,
        }
        assert answer.positions == {"treasury": 4}
        supply = await world.ask("balances.supply")
        assert supply.body["items"] == [{"symbol": "COMPUTE", "minted": "100", "burned": "0", "supply": "100"}]
        everyone = (await world.ask("balances.list")).body["items"]
        assert sum(int(row["balance"]) for row in everyone) == 100
        with pytest.raises(NothingThere):
            await world.ask("balances.one", account="nobody")


async def test_lists_page_by_cursor_without_gap_or_repetition(world: World) -> None:
    await world.history.record(*(history.posted("pool/a", member(n), n + 1, n) for n in range(25)))
    async with world.following(balances.VIEW):
        seen: list[str] = []
        cursor = None
        while True:
            body = (await world.ask("balances.list", limit=7, cursor=cursor)).body
            seen += [row["account"] for row in body["items"]]
            if (cursor := body["next"]) is None:
                break
    assert seen == sorted({*(member(n) for n in range(25)), "pool/a"})
    for nonsense in ("x", "!!!", "W10", "WzFd"):
        with pytest.raises(NothingThere):
            await world.ask("balances.list", cursor=nonsense)


async def test_a_query_waits_for_at_least_a_position_and_gives_up_in_the_end(world: World) -> None:
    with pytest.raises(NotCaughtUp) as refused:
        await world.ask("balances.list", at_least={"treasury": 1}, wait=0.2)
    assert refused.value.retry_after_seconds >= 1
    waiting = asyncio.create_task(world.ask("balances.list", at_least={"treasury": 2, "registry": 99}))
    async with world.following(balances.VIEW):
        await world.history.record(history.minted("a", 1))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await world.history.record(history.minted("a", 1))
        assert (await waiting).positions["treasury"] >= 2


async def test_every_view_answers_what_it_is_for(world: World) -> None:
    day = history.DAY_MS
    await world.history.record(
        history.joined(1, "ada"),
        (member(1), history.registry.RoleGranted(member(1), "provider")),
        history.registered(1, 1),
        (node(1), history.registry.NodeActivated(node(1))),
        history.leases("p", 4),
        history.cancelled("p", 4),
        history.readings(1, 1, [(5, 10), (day - 1, day + 1), (day, day + 9)], rejected=1),
        history.scored(3, 1, 2, share=1_999),
        history.closed(3, 2),
        history.settled(3),
        history.paid(3, 1, amount=700),
    )
    async with world.following():
        await world.caught_up()
        found = (await world.ask("members.list", handle="ada")).body["items"]
        assert [(row["member"], row["roles"]) for row in found] == [(member(1), ["provider"])]
        one = (await world.ask("nodes.one", node=node(1))).body
        assert (one["status"], one["owner"], one["epoch"], one["devices"][0]["model"]) == ("active", member(1), 3, "T4")
        days = (await world.ask("usage.days", node=node(1))).body["items"]
        assert [(row["day"], row["batches"], row["readings"], row["rejected"]) for row in days] == [
            (0, 1, 1, 1),
            (1, 0, 1, 0),
        ]
        lease = (await world.ask("usage.lease", lease=f"lease/{4:032x}")).body
        assert (lease["project"], lease["cancelled_ms"], lease["charged"]) == ("p", 1_800_000, "1000")
        total = (await world.ask("usage.total")).body
        assert (total["share_milli_ms"], total["verified_milli_gpu_seconds"], total["leases"]) == ("3998", "3", 1)
        score = (await world.ask("scores.list", epoch=3, node=node(1))).body["items"][0]
        assert (score["micro_rgpu_hours"], score["reward"], score["devices"][0]["performance_factor"]) == (
            "1000001",
            "700",
            10_000,
        )
        epoch = (await world.ask("epochs.one", epoch=3)).body
        assert (epoch["status"], epoch["pool"], epoch["paid"], epoch["kept"]) == ("settled", "1000", "700", "280")
        assert epoch["totals"]["gpu"]["nodes"] == 2


async def test_the_audit_trail_finds_facts_and_shows_their_record_and_hash(world: World) -> None:
    await world.history.record(history.joined(1, "ada"), history.minted("a", 5), actor=member(1))
    await world.history.record(history.posted("a", "b", 1), history.posted("b", "a", 1), actor=member(2))
    async with world.following(audit_trail.VIEW):
        everything = (await world.ask("audit_trail.search")).body["items"]
        assert len(everything) == 4
        by_actor = (await world.ask("audit_trail.search", actor=member(2))).body["items"]
        assert [(row["service"], row["position"]) for row in by_actor] == [("treasury", "2"), ("treasury", "3")]
        newest = (await world.ask("audit_trail.search", stream="book/COMPUTE", newest_first=True, limit=1)).body
        assert newest["items"][0]["position"] == "3"
        rest = await world.ask("audit_trail.search", stream="book/COMPUTE", newest_first=True, cursor=newest["next"])
        assert [row["position"] for row in rest.body["items"]] == ["2", "1"]
        by_type = (await world.ask("audit_trail.search", type="registry.member-registered.v1")).body["items"]
        assert [row["service"] for row in by_type] == ["registry"]
        time = by_type[0]["time"]
        assert (await world.ask("audit_trail.search", until=time)).body["items"] == []
        assert len((await world.ask("audit_trail.search", since=time)).body["items"]) == 4
        one = (await world.ask("audit_trail.one", service="treasury", position=2)).body
        stored = (await world.stores["treasury"].read(1, 1))[0].state
        assert one["record"].encode() == stored
        assert one["record_sha256"] == hashlib.sha256(stored).hexdigest()
        assert one["intact"]
        with pytest.raises(NothingThere):
            await world.ask("audit_trail.one", service="treasury", position=9)


async def test_rebuilding_any_view_gives_the_hash_of_the_live_one_while_facts_go_on(world: World) -> None:
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


async def test_a_fact_that_cannot_be_folded_stops_its_view_before_it_and_no_other(world: World) -> None:
    def choke(fact: Any, recorded: Recorded) -> list[Change]:
        if recorded.position == 3:
            raise ZeroDivisionError
        return list(balances._posted(fact, recorded))

    handlers = {**balances.VIEW.handlers, history.treasury.TransactionPosted: choke}
    choking = View("choking", 1, ("treasury",), balances.VIEW.tables, handlers)
    await world.history.record(*(history.posted("a", "b", 1, n) for n in range(5)))
    async with world.following(choking, balances.VIEW) as (choked, fine):
        await world.caught_up(balances.VIEW)
        async with asyncio.timeout(10):
            while choked.alarm is None:
                await asyncio.sleep(0.02)
    assert (choked.alarm.service, choked.alarm.position) == ("treasury", 3)
    assert isinstance(choked.alarm.__cause__, ZeroDivisionError)
    assert (await world.views.checkpoints(choking.follower))["treasury"].position == 2
    assert fine.alarm is None
    assert (await world.ask("balances.one", account="b")).body["balance"] == "5"
    # Once the fold is repaired, it goes on as if nothing had happened.
    repaired = View("choking", 1, ("treasury",), balances.VIEW.tables, balances.VIEW.handlers)
    async with world.following(repaired):
        await world.caught_up(repaired)
    assert await world.digest(repaired) == await world.digest(balances.VIEW)


async def test_a_fact_whose_row_the_database_refuses_stops_its_view_before_it(world: World) -> None:
    most = 2**63 - 1
    await world.history.record(*(history.posted("a", "b", amount, amount) for amount in (1, 2, most, 3)))
    async with world.following(balances.VIEW) as (runner,):
        async with asyncio.timeout(10):
            while runner.alarm is None:
                await asyncio.sleep(0.02)
    assert runner.alarm.position == 3
    answer = await world.ask("balances.one", account="b", at_least={})
    assert (answer.body["balance"], answer.positions) == ("3", {"treasury": 2})


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


async def test_two_followers_of_one_view_fold_each_fact_once(world: World) -> None:
    async with world.following(balances.VIEW, balances.VIEW, balances.VIEW):
        for number in range(30):
            await world.history.record(history.posted("a", "b", 1, number))
        await world.caught_up(balances.VIEW)
    assert (await world.ask("balances.one", account="b")).body["balance"] == "30"


async def test_a_zombie_is_rolled_back_and_the_same_page_again_changes_nothing(world: World) -> None:
    await world.history.record(history.posted("a", "b", 1, 1))
    subscription = await TailBus(world.stores).subscribe(["treasury"], {})
    page = await subscription.fetch(5)
    assert page is not None
    first, zombie = world.runner(balances.VIEW), world.runner(balances.VIEW)
    await first.take(page)
    await first.take(page)
    with pytest.raises(CheckpointMoved):
        await zombie.take(page)
    assert (await world.ask("balances.one", account="b")).body["balance"] == "1"


async def test_lag_shows_every_follower_with_what_lies_before_it(world: World) -> None:
    await world.history.record(history.joined(1, "ada"), *(history.posted("a", "b", 1, n) for n in range(3)))
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)
    await world.history.record(history.posted("a", "b", 1, 9))
    point = Checkpoint("policy/pays", "registry", 1, b"")
    await world.stores["treasury"].move([Move(0, point)])
    places = [PolicyPlace("treasury", "pays", "registry"), PolicyPlace("metering", "idle", "treasury")]
    found = await lag(world.stores, [balances.VIEW, members.VIEW], world.views, places)
    assert [(row, row.behind) for row in found] == [
        (Lag("view/balances.v1", "treasury", 3, 4), 1),
        (Lag("view/members.v1", "registry", 0, 1), 1),
        (Lag("policy/pays", "registry", 1, 1), 0),
        (Lag("policy/idle", "treasury", 0, 4), 4),
    ]


def test_every_view_has_a_name_of_its_own_and_every_route_a_path_of_its_own() -> None:
    async def nothing(_service: str, _position: int) -> bytes | None:
        return None

    unused: Callable[..., Any] = nothing
    all_routes = routes(ViewReader(None), unused)  # type: ignore[arg-type]
    assert len({view.name for view in views()}) == len(views()) == 7
    assert len({route.path for route in all_routes}) == len({route.name for route in all_routes}) == len(all_routes)
    assert {route.permission for route in all_routes} == {"views.read"}
    assert {view for view in views()} == {
        view.VIEW for view in (audit_trail, balances, epochs, members, nodes, scores, usage)
    }

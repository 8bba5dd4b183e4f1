"""Views follow facts on a real database and answer queries about them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pydantic
import pytest

from events import metering, registry, treasury
from events.store import Checkpoint, CheckpointMoved, Move
from infra.tail import TailBus
from projections import audit_trail, balances, epochs, members, nodes, profiles, scores, usage
from projections.catalog import routes, views
from projections.lag import Lag, PolicyPlace, lag
from projections.queries import ViewReader
from projections.routes import NotCaughtUp, NothingThere
from tests import history
from tests.followers import follower
from tests.following import World, open_world
from tests.history import member, node


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as opened:
        yield opened


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
    made = [json.dumps(values).encode() for values in ([], [1], ["a", "b"], ["\0"], {"a": 1}, [None], ["x" * 999])]
    for nonsense in ("x", "!!!", "é", *(base64.urlsafe_b64encode(raw).decode() for raw in made)):
        with pytest.raises(NothingThere):
            await world.ask("balances.list", cursor=nonsense)


async def test_no_parameter_reaches_the_database_that_a_column_could_not_hold(world: World) -> None:
    beyond: dict[str, dict[str, Any]] = {
        "epochs.one": {"epoch": 2**63},
        "scores.list": {"epoch": -(2**64)},
        "usage.counted": {"epoch": 2**63},
        "audit_trail.one": {"service": "treasury", "position": 2**63},
        "balances.one": {"account": "a\0b"},
        "audit_trail.search": {"actor": "\0"},
        "members.list": {"limit": 1_001},
    }
    for name, given in beyond.items():
        with pytest.raises(pydantic.ValidationError):
            await world.ask(name, at_least={}, **given)
    number = base64.urlsafe_b64encode(json.dumps([2**63]).encode()).decode()
    with pytest.raises(NothingThere):
        await world.ask("epochs.list", at_least={}, cursor=number)


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
        (member(1), registry.RoleGranted(member(1), "provider")),
        history.registered(1, 1),
        (node(1), registry.NodeActivated(node(1))),
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


async def test_kinds_of_resource_are_shown_side_by_side_and_never_added(world: World) -> None:
    of = msgspec.structs.replace
    stream, page = history.scored(3, 1, share=1_000)
    cores = of(page, page=1, nodes=tuple(of(score, micro_rgpu_hours="77") for score in page.nodes), kind="cpu")
    late = metering.LateUsageScored(3, 4, 0, 1, "77", cores.nodes, "cpu")
    _, closing = history.closed(3, 1)
    totals = closing.totals | {"cpu": closing.totals["gpu"]}
    book, gpus = history.settled(3)
    shared = of(gpus, pool="300", paid="90", late_reserve="10", kept="200", kind="cpu")
    held = (treasury.NodeReward(node(1), member(1), "9"),)
    postings = (history.posting("epoch/3/cpu", member(1), 81), history.posting("epoch/3/cpu", "holdback/3", 9))
    paid = treasury.RewardsPaid(3, 0, (node(1),), postings, "cpu", held)
    release = treasury.HoldbackPaid(
        3, "cpu", "a.b", (node(1),), held, (history.posting("holdback/3", member(1), 9),), "ungated"
    )
    await world.history.record((stream, page), (stream, cores), (stream, of(closing, totals=totals)), (stream, late))
    await world.history.record((book, gpus), history.paid(3, 1, amount=700))
    async with world.following():
        await world.caught_up()
        epoch = (await world.ask("epochs.one", epoch=3)).body
        assert (epoch["status"], epoch["pool"]) == ("closed", "1000")
        await world.history.record((book, shared), (book, paid))
        await world.caught_up()
        epoch = (await world.ask("epochs.one", epoch=3)).body
        assert (epoch["status"], epoch["pool"], epoch["paid"], epoch["kept"]) == ("settled", "1300", "790", "480")
        assert epoch["pools"]["cpu"]["paid"] == "90"
        scores = (await world.ask("scores.list", epoch=3)).body["items"]
        assert [(row["kind"], row["micro_rgpu_hours"], row["reward"], row["held"]) for row in scores] == [
            ("cpu", "77", "81", "9"),
            ("gpu", "1000001", "700", "0"),
        ]
        assert [row["kind"] for row in (await world.ask("scores.late")).body["items"]] == ["cpu"]
        counted = (await world.ask("usage.counted", node=node(1))).body["items"]
        assert [(row["kind"], row["share_milli_ms"], row["late_milli_ms"]) for row in counted] == [
            ("cpu", "1000", "1000"),
            ("gpu", "1000", "0"),
        ]
        assert ["verified_milli_gpu_seconds" in row for row in counted] == [False, True]
        assert (await world.ask("usage.total")).body["share_milli_ms"] == "1000"
        one = (await world.ask("nodes.one", node=node(1))).body
        assert (one["micro_rgpu_hours"], one["scores"]) == ("1000001", {"gpu": "1000001", "cpu": "77"})
        await world.history.record((book, release))
        await world.caught_up()
        (row,) = (await world.ask("scores.list", epoch=3, kind="cpu")).body["items"]
        assert (row["reward"], row["held"], row["forfeited"]) == ("90", "0", "0")


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


async def test_two_followers_of_one_view_fold_each_fact_once(world: World) -> None:
    async with world.following(balances.VIEW, balances.VIEW, balances.VIEW):
        for number in range(30):
            await world.history.record(history.posted("a", "b", 1, number))
        await world.caught_up(balances.VIEW)
    assert (await world.ask("balances.one", account="b")).body["balance"] == "30"


async def test_a_zombie_is_rolled_back_and_the_same_page_again_changes_nothing(world: World) -> None:
    await world.history.record(history.posted("a", "b", 1, 1))
    subscription = await TailBus(world.stores).subscribe(follower(["treasury"]))
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
        (Lag(balances.VIEW.follower, "treasury", 3, 4), 1),
        (Lag(members.VIEW.follower, "registry", 0, 1), 1),
        (Lag("policy/pays", "registry", 1, 1), 0),
        (Lag("policy/idle", "treasury", 0, 4), 4),
    ]


def test_every_view_has_a_name_of_its_own_and_every_route_a_path_of_its_own() -> None:
    async def nothing(_service: str, _position: int) -> bytes | None:
        return None

    unused: Callable[..., Any] = nothing
    all_routes = routes(ViewReader(None), unused, unused)  # type: ignore[arg-type]
    assert len({view.name for view in views()}) == len(views()) == 8
    assert len({route.path for route in all_routes}) == len({route.name for route in all_routes}) == len(all_routes)
    assert {route.permission for route in all_routes} == {"views.read", "profiles.read"}
    assert set(views()) == {
        view.VIEW for view in (audit_trail, balances, epochs, members, nodes, profiles, scores, usage)
    }

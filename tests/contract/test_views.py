"""What every store of views promises the projection runner, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from events.parked import Parked
from events.store import Checkpoint, CheckpointMoved, Move, StoreError
from infra.memory_views import MemoryViews
from infra.postgres.pool import open_pool
from infra.postgres.views import PostgresViews
from projections.store import Difference, RebuildRunning, RowsRefused, Select, ViewNotBuilt, ViewStore
from projections.view import Row, Table, View


class Thing(Row):
    """A row with every type of column."""

    name: str
    part: int
    note: str | None = None
    count: int = 0
    size: int | None = None
    good: bool = False
    raw: bytes | None = None


class Line(Row):
    """A row that is written once."""

    number: int
    text: str


THINGS = Table("things", Thing, ("name", "part"), indexes=(("note", "name"),))
LINES = Table("lines", Line, ("number",), append_only=True)
VIEW = View("sample", 1, ("left", "right"), (THINGS, LINES), {})


@pytest.fixture(params=["memory", "postgres"])
async def views(request: pytest.FixtureRequest) -> AsyncIterator[ViewStore]:
    if request.param == "memory":
        memory = MemoryViews()
        await memory.prepare(VIEW)
        yield memory
        return
    pool = await open_pool(request.getfixturevalue("database"), size=6)
    postgres = PostgresViews(pool)
    await postgres.prepare(VIEW)
    yield postgres
    await pool.close()


def move(before: int, after: int, channel: str = "left") -> Move:
    return Move(before, Checkpoint(VIEW.follower, channel, after, b"%032d" % after))


async def rows(views: ViewStore, select: Select) -> list[Any]:
    async with views.reading(VIEW) as snapshot:
        return list(await snapshot.select(select))


async def digest(views: ViewStore) -> str:
    async with views.reading(VIEW) as snapshot:
        return await snapshot.digest(VIEW)


async def write(views: ViewStore, *things: Thing, before: int | None = None, after: int = 0) -> None:
    async with views.writing(VIEW) as writer:
        if before is not None:
            await writer.move([move(before, after)])
        await writer.write(THINGS, things)


async def test_rows_come_back_as_they_were_written(views: ViewStore) -> None:
    full = Thing("é'\"\\\n\t,{}", 2**63 - 1, "", -(2**63), 7, good=True, raw=b"\x00\xff")
    bare = Thing("a", -1)
    await write(views, full, bare)
    assert await rows(views, Select(THINGS)) == [bare, full]


async def test_writing_a_row_again_replaces_it(views: ViewStore) -> None:
    await write(views, Thing("a", 1, "old", 5, raw=b"x"))
    await write(views, Thing("a", 1, None, 6))
    assert await rows(views, Select(THINGS)) == [Thing("a", 1, None, 6)]


async def test_fetch_returns_the_rows_that_exist(views: ViewStore) -> None:
    await write(views, Thing("a", 1, count=1), Thing("a", 2, count=2), Thing("b", 1, count=3))
    async with views.writing(VIEW) as writer:
        found = await writer.fetch(THINGS, [("a", 2), ("b", 1), ("b", 2)])
    assert sorted(row.count for row in found) == [2, 3]  # type: ignore[attr-defined]


async def test_what_is_written_and_the_checkpoint_are_seen_together_or_not_at_all(views: ViewStore) -> None:
    async def fail() -> None:
        async with views.writing(VIEW) as writer:
            await writer.move([move(0, 5)])
            await writer.write(THINGS, [Thing("a", 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await rows(views, Select(THINGS)) == []
    assert await views.checkpoints(VIEW.follower) == {}
    await write(views, Thing("a", 1), before=0, after=5)
    assert await rows(views, Select(THINGS)) == [Thing("a", 1)]
    assert await views.checkpoints(VIEW.follower) == {"left": move(0, 5).after}


@pytest.mark.parametrize("before", [0, 4, 6])
async def test_a_zombie_that_moves_from_elsewhere_is_rolled_back(views: ViewStore, before: int) -> None:
    await write(views, Thing("a", 1, count=1), before=0, after=5)
    with pytest.raises(CheckpointMoved):
        await write(views, Thing("a", 1, count=99), before=before, after=9)
    assert await rows(views, Select(THINGS)) == [Thing("a", 1, count=1)]
    assert (await views.checkpoints(VIEW.follower))["left"].position == 5


async def test_two_writers_take_turns_and_one_of_them_loses(views: ViewStore) -> None:
    async def advance(count: int) -> None:
        async with views.writing(VIEW) as writer:
            await writer.move([move(0, 5)])
            await asyncio.sleep(0.05)
            await writer.write(THINGS, [Thing("a", 1, count=count)])

    results = await asyncio.gather(advance(1), advance(2), return_exceptions=True)
    assert [type(result) for result in results].count(CheckpointMoved) == 1
    assert len(await rows(views, Select(THINGS))) == 1


async def test_channels_have_checkpoints_of_their_own(views: ViewStore) -> None:
    async with views.writing(VIEW) as writer:
        await writer.move([move(0, 5), move(0, 8, "right")])
    found = await views.checkpoints(VIEW.follower)
    assert {channel: point.position for channel, point in found.items()} == {"left": 5, "right": 8}


async def test_a_reader_sees_one_moment_with_the_positions_that_belong_to_it(views: ViewStore) -> None:
    await write(views, Thing("a", 1, count=1), before=0, after=1)
    async with views.reading(VIEW) as snapshot:
        before = await snapshot.checkpoints(VIEW)
        await write(views, Thing("a", 1, count=2), before=1, after=2)
        assert (await snapshot.select(Select(THINGS)))[0].count == before["left"].position == 1
    assert (await rows(views, Select(THINGS)))[0].count == 2


async def test_selections_filter_order_and_page(views: ViewStore) -> None:
    await write(views, *(Thing(name, part, note, part) for name in "ab" for part, note in enumerate(["x", None, "x"])))
    found = await rows(views, Select(THINGS, (("note", "=", "x"),)))
    assert [(row.name, row.part) for row in found] == [("a", 0), ("a", 2), ("b", 0), ("b", 2)]
    found = await rows(views, Select(THINGS, (("part", ">=", 1), ("part", "<", 2))))
    assert [(row.name, row.part) for row in found] == [("a", 1), ("b", 1)]
    order = ("count", "name", "part")
    page = await rows(views, Select(THINGS, order=order, descending=True, limit=2))
    rest = await rows(views, Select(THINGS, order=order, descending=True, after=(2, "a", 2), limit=3))
    assert [(row.count, row.name) for row in page] == [(2, "b"), (2, "a")]
    assert [(row.count, row.name) for row in rest] == [(1, "b"), (1, "a"), (0, "b")]


async def test_the_hash_depends_on_the_rows_and_not_on_how_they_came(views: ViewStore) -> None:
    await write(views, Thing("a", 1, count=1))
    await write(views, Thing("b", 1, "x"), Thing("a", 1, count=2))
    first = await digest(views)
    await write(views, Thing("a", 1, count=3))
    assert await digest(views) != first
    await write(views, Thing("a", 1, count=2))
    assert await digest(views) == first


async def test_a_rebuild_stays_unseen_until_it_is_swapped_in(views: ViewStore) -> None:
    await write(views, Thing("old", 1), before=0, after=5)
    async with views.rebuilding(VIEW) as building:
        async with building.writing() as writer:
            await writer.write(THINGS, [Thing("new", 1), Thing("new", 2)])
            await writer.write(LINES, [Line(1, "one")])
        async with building.writing() as writer:
            await writer.write(THINGS, [Thing("new", 2, count=2)])
        async with building.writing() as writer:
            assert await writer.fetch(THINGS, [("new", 2)]) == [Thing("new", 2, count=2)]
        await building.finish()
        assert await rows(views, Select(THINGS)) == [Thing("old", 1)]
        async with building.swapping() as swap:
            assert swap.live["left"].position == 5
            before, after = await swap.digests()
            assert before != after
            await swap.replace({"left": move(0, 7).after})
    assert await rows(views, Select(THINGS)) == [Thing("new", 1), Thing("new", 2, count=2)]
    assert await digest(views) == after
    assert (await views.checkpoints(VIEW.follower))["left"].position == 7
    await write(views, Thing("later", 1), before=7, after=8)


async def test_a_rebuild_that_fails_leaves_the_live_view_and_can_start_again(views: ViewStore) -> None:
    await write(views, Thing("old", 1), before=0, after=5)

    async def fail() -> None:
        async with views.rebuilding(VIEW) as building, building.writing() as writer:
            await writer.write(THINGS, [Thing("new", 1)])
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await fail()
    assert await rows(views, Select(THINGS)) == [Thing("old", 1)]


async def test_only_one_rebuild_of_a_view_runs_at_a_time(views: ViewStore) -> None:
    async with views.rebuilding(VIEW):
        with pytest.raises(RebuildRunning):
            async with views.rebuilding(VIEW):
                pass


async def test_a_live_writer_waits_for_the_swap_and_then_writes_to_the_new_tables(views: ViewStore) -> None:
    await write(views, Thing("old", 1), before=0, after=5)
    async with views.rebuilding(VIEW) as building:
        async with building.swapping() as swap:
            late = asyncio.create_task(write(views, Thing("late", 1), before=5, after=6))
            await asyncio.sleep(0.1)
            assert not late.done()
            await swap.replace(swap.live)
        await late
    assert await rows(views, Select(THINGS)) == [Thing("late", 1)]


async def test_a_table_with_other_columns_is_refused_with_the_reason(database: str) -> None:
    pool = await open_pool(database, size=2)
    await PostgresViews(pool).prepare(VIEW)
    await PostgresViews(pool).prepare(VIEW)
    changed = View("sample", 1, VIEW.services, (THINGS, Table("lines", Thing, ("name",))), {})
    with pytest.raises(StoreError, match="needs a new version"):
        await PostgresViews(pool).prepare(changed)
    await PostgresViews(pool).prepare(View("sample", 2, VIEW.services, changed.tables, {}))
    await pool.close()


async def test_a_reader_never_sees_a_swap_half_done(views: ViewStore) -> None:
    await write(views, Thing("old", 1), before=0, after=5)
    async with views.reading(VIEW) as snapshot:

        async def swap_in() -> None:
            async with views.rebuilding(VIEW) as building:
                async with building.writing() as writer:
                    await writer.write(THINGS, [Thing("new", 1)])
                async with building.swapping() as swap:
                    await swap.replace({"left": move(0, 9).after})

        swapping = asyncio.create_task(swap_in())
        await asyncio.sleep(0.2)
        found = await snapshot.select(Select(THINGS))
        assert (found[0].name, (await snapshot.checkpoints(VIEW))["left"].position) == ("old", 5)
    await swapping
    assert await rows(views, Select(THINGS)) == [Thing("new", 1)]


def aside(position: int, stream: str = "s", *, first: bool = False, error: str = "why") -> Parked:
    return Parked(VIEW.follower, "left", position, "left", stream, "left.thing-done.v1", error, first)


async def all_parked(views: ViewStore) -> list[tuple[int, str, bool]]:
    async with views.writing(VIEW) as writer:
        found = await writer.parked(("", 0), 100)
        assert await writer.parked_count() == len(found)
    return [(each.position, each.error, each.first) for each in found]


async def test_parked_facts_are_kept_in_order_and_the_first_of_a_stream_blocks_it(views: ViewStore) -> None:
    assert await views.alarms() == []
    async with views.writing(VIEW) as writer:
        await writer.park([aside(7, first=True), aside(9), aside(8, "t", first=True)])
        assert await writer.blocked() == {("left", "s"): 7, ("left", "t"): 8}
    assert await all_parked(views) == [(7, "why", True), (8, "why", True), (9, "why", False)]
    assert [(each.follower, each.position) for each in await views.alarms()] == [(VIEW.follower, 7), (VIEW.follower, 8)]
    assert all(each.parked_us > 1_700_000_000_000_000 for each in await views.alarms())
    assert await views.parked_counts() == {VIEW.follower: 3}
    async with views.writing(VIEW) as writer:
        assert [each.position for each in await writer.parked(("left", 7), 1)] == [8]


async def test_when_parked_facts_are_released_the_first_one_left_of_their_stream_blocks_it(views: ViewStore) -> None:
    async with views.writing(VIEW) as writer:
        await writer.park([aside(7, first=True), aside(9), aside(10), aside(8, "t", first=True)])
    async with views.writing(VIEW) as writer:
        await writer.release([aside(7), aside(8, "t")])
        await writer.park([aside(9, first=True, error="now this")])
        assert await writer.blocked() == {("left", "s"): 9}
    assert await all_parked(views) == [(9, "now this", True), (10, "why", False)]


async def test_what_is_parked_is_rolled_back_with_everything_else(views: ViewStore) -> None:
    async def fail() -> None:
        async with views.writing(VIEW) as writer:
            await writer.park([aside(7, first=True)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await all_parked(views) == []


@pytest.mark.parametrize(
    "thing", [Thing("a", 2**63), Thing("a", 1, count=-(2**63) - 1), Thing("a\0", 1), Thing("\ud800", 1)]
)
async def test_a_row_that_no_column_can_hold_is_refused_by_name(views: ViewStore, thing: Thing) -> None:
    with pytest.raises(RowsRefused):
        await write(views, Thing("fine", 1), thing)
    with pytest.raises(RowsRefused):
        async with views.writing(VIEW) as writer:
            await writer.fetch(THINGS, [("a", 2**63)])
    assert await rows(views, Select(THINGS)) == []


async def test_a_second_row_of_a_key_that_is_written_once_is_refused_by_name(views: ViewStore) -> None:
    async with views.writing(VIEW) as writer:
        await writer.write(LINES, [Line(1, "one")])
    with pytest.raises(RowsRefused):
        async with views.writing(VIEW) as writer:
            await writer.write(LINES, [Line(2, "two"), Line(1, "another")])
    assert await rows(views, Select(LINES)) == [Line(1, "one")]


async def test_a_rebuild_brings_its_own_parked_facts_and_names_the_rows_that_differ(views: ViewStore) -> None:
    await write(views, Thing("same", 1), Thing("old", 1), Thing("other", 1, "x"), before=0, after=5)
    async with views.writing(VIEW) as writer:
        await writer.park([aside(3, first=True, error="before")])
    async with views.rebuilding(VIEW) as building:
        async with building.writing() as writer:
            assert await writer.blocked() == {}
            await writer.move([Move(0, Checkpoint(writer.follower, "left", 5, b""))])
            await writer.park([replace(aside(4, first=True, error="anew"), follower=writer.follower)])
            await writer.write(THINGS, [Thing("same", 1), Thing("new", 1), Thing("other", 1, None)])
        assert [each.position for each in await views.alarms()] == [3]
        assert (await building.live())["left"].position == 5
        async with building.swapping() as swap:
            assert list(await swap.differences(9)) == [
                Difference("things", None, Thing("new", 1)),
                Difference("things", Thing("old", 1), None),
                Difference("things", Thing("other", 1, "x"), Thing("other", 1, None)),
            ]
            assert len(await swap.differences(2)) == 2
            await swap.replace(swap.live)
    assert await all_parked(views) == [(4, "anew", True)]


async def test_a_version_without_tables_is_named_until_a_rebuild_brings_them(views: ViewStore) -> None:
    await write(views, Thing("old", 1), before=0, after=5)
    second = replace(VIEW, version=2)
    assert (await views.stands(VIEW), await views.stands(second)) == (True, False)
    for opened in (views.reading(second), views.writing(second)):
        with pytest.raises(ViewNotBuilt):
            async with opened as unbuilt:
                await (unbuilt.fetch(THINGS, [("a", 1)]) if hasattr(unbuilt, "fetch") else unbuilt.digest(second))
    async with views.rebuilding(second) as building:
        async with building.writing() as writer:
            await writer.write(THINGS, [Thing("new", 1)])
        assert not await views.stands(second)
        async with building.swapping() as swap:
            assert (swap.live, (await swap.digests())[0]) == ({}, "")
            await swap.replace({"left": Checkpoint(second.follower, "left", 7, b"")})
    assert await rows(views, Select(THINGS)) == [Thing("old", 1)]
    assert list(await views.drop_older(second)) == [1]
    assert list(await views.drop_older(second)) == []
    assert (await views.stands(VIEW), await views.checkpoints(VIEW.follower)) == (False, {})
    async with views.reading(second) as snapshot:
        assert list(await snapshot.select(Select(THINGS))) == [Thing("new", 1)]

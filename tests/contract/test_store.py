"""What every store promises, judged once over all adapters."""

# ruff: noqa: PT012 - what raises is a whole session, so the block has several statements

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from eventsourcing.persistence import Notification, StoredEvent

from events.store import (
    PAGE,
    Checkpoint,
    CheckpointMoved,
    Head,
    Move,
    Outcome,
    Snapshot,
    Store,
    StoreRewound,
    VersionConflict,
    verify_checkpoint,
)
from infra.memory import MemoryLog, MemoryStore, system_clock
from infra.postgres.store import PostgresStore

Opener = Callable[..., Awaitable[MemoryStore | PostgresStore]]


@pytest.fixture(params=["memory", "postgres"])
async def open_store(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Open stores over one and the same database (or memory), each as another process would."""
    opened: list[MemoryStore | PostgresStore] = []
    log = MemoryLog()
    dsn = request.getfixturevalue("database") if request.param == "postgres" else ""

    async def opener(clock: Callable[[], int] | None = None) -> MemoryStore | PostgresStore:
        store: MemoryStore | PostgresStore
        if dsn:
            store = await PostgresStore.open(dsn, "metering", clock)
        else:
            store = MemoryStore("metering", clock or system_clock, log)
        opened.append(store)
        return store

    yield opener
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Opener) -> MemoryStore | PostgresStore:
    return await open_store()


def facts(stream: str, *versions: int, state: bytes = b"state") -> list[StoredEvent]:
    return [StoredEvent(stream, version, "metering.fact.v1", state) for version in versions]


async def put(store: Store, *events: StoredEvent) -> None:
    async with store.session() as session:
        await session.append(events)


def positions(page: object) -> list[int]:
    return [notification.id for notification in page]  # type: ignore[attr-defined]


async def test_an_empty_store_has_no_head_and_no_records(store: Store) -> None:
    assert await store.head() == Head()
    assert list(await store.read(0)) == []
    assert list(await store.read_stream("node/1")) == []
    async with store.session() as session:
        assert session.head == Head()
        assert list(session.news) == []
        assert session.time_us > 0


async def test_positions_are_dense_and_follow_the_order_of_the_append(store: Store) -> None:
    await put(store, *facts("a", 1), *facts("b", 1), *facts("a", 2))
    await put(store, *facts("c", 1))
    page = await store.read(0)
    assert positions(page) == [1, 2, 3, 4]
    assert [(n.originator_id, n.originator_version) for n in page] == [("a", 1), ("b", 1), ("a", 2), ("c", 1)]


async def test_what_is_read_are_real_notifications_equal_to_constructed_ones(store: Store) -> None:
    await put(store, *facts("a", 1, state=b"bytes"))
    (found,) = await store.read(0)
    assert type(found) is Notification
    assert found == Notification("a", 1, "metering.fact.v1", b"bytes", 1)
    assert hash(found) == hash(Notification("a", 1, "metering.fact.v1", b"bytes", 1))
    assert replace(found, id=2).id == 2


async def test_the_head_is_the_last_record_with_its_hash_and_time(store: Store) -> None:
    await put(store, *facts("a", 1))
    async with store.session() as session:
        time_us = session.time_us
        await session.append(facts("a", 2, state=b"the last"))
    head = await store.head()
    assert head == Head(2, time_us, hashlib.sha256(b"the last").digest())
    async with store.session() as session:
        assert session.head == head


async def test_seal_is_called_once_per_event_with_position_and_time_and_gives_the_bytes(store: Store) -> None:
    calls: list[tuple[StoredEvent, int, int]] = []

    def seal(event: StoredEvent, position: int, time_us: int) -> bytes:
        calls.append((event, position, time_us))
        return event.state + b"@%d" % position

    await put(store, *facts("a", 1))
    events = facts("a", 2, 3)
    async with store.session() as session:
        sealed = await session.append(events, seal=seal)
        assert calls == [(events[0], 2, session.time_us), (events[1], 3, session.time_us)]
    assert list(sealed) == [b"state@2", b"state@3"]
    assert [n.state for n in await store.read(1)] == [b"state@2", b"state@3"]


async def test_recorded_time_never_decreases_although_the_clock_goes_back(open_store: Opener) -> None:
    ticks: Iterator[int] = iter([1_000, 400, 1_500])
    store = await open_store(lambda: next(ticks))
    times = []
    for version in (1, 2, 3):
        async with store.session() as session:
            times.append(session.time_us)
            await session.append(facts("a", version))
    assert times == [1_000, 1_000, 1_500]
    assert (await store.head()).time_us == 1_500


async def test_a_clock_that_lags_in_another_process_does_not_turn_time_back(open_store: Opener) -> None:
    ahead, behind = await open_store(lambda: 9_000), await open_store(lambda: 5)
    await put(ahead, *facts("a", 1))
    async with behind.session() as session:
        assert session.time_us == 9_000


async def test_without_a_clock_of_ours_time_is_microseconds_utc(store: Store) -> None:
    before = system_clock()
    async with store.session() as session:
        assert abs(session.time_us - before) < 60_000_000


@pytest.mark.parametrize("first", [-5, 0, 1, 7, 2**40])
async def test_any_first_version_is_welcome_on_a_new_stream(store: Store, first: int) -> None:
    await put(store, *facts("a", first, first + 1))
    await put(store, *facts("a", first + 2))
    assert (await store.head()).position == 3


@pytest.mark.parametrize("wrong", [[4], [2], [1], [3, 3], [3, 5]])
async def test_a_version_that_is_not_the_last_plus_one_is_refused(store: Store, wrong: list[int]) -> None:
    await put(store, *facts("a", 1, 2))
    with pytest.raises(VersionConflict):
        await put(store, *facts("other", 1), *facts("a", *wrong))
    assert (await store.head()).position == 2
    await put(store, *facts("a", 3))


async def test_versions_are_checked_by_a_store_that_never_saw_the_stream(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await put(one, *facts("a", 1, 2, 3))
    two.seen(3)
    with pytest.raises(VersionConflict):
        await put(two, *facts("a", 3))
    with pytest.raises(VersionConflict):
        await put(two, *facts("a", 5))
    await put(two, *facts("a", 4))
    with pytest.raises(VersionConflict):
        await put(one, *facts("a", 4))
    await put(one, *facts("a", 5))


async def test_a_conflict_that_the_caller_swallows_stores_nothing(store: Store) -> None:
    await put(store, *facts("a", 1))
    with pytest.raises(VersionConflict):
        async with store.session() as session:
            with pytest.raises(VersionConflict):
                await session.append(facts("a", 9))
    assert (await store.head()).position == 1


async def test_a_rejected_append_leaves_no_trace_in_what_the_store_remembers(store: Store) -> None:
    await put(store, *facts("a", 1))
    with pytest.raises(ZeroDivisionError):
        async with store.session() as session:
            await session.append(facts("a", 2))
            raise ZeroDivisionError
    await put(store, *facts("a", 2))
    assert positions(await store.read(0)) == [1, 2]


def outcome(name: str, first: int = 0, last: int = 0) -> Outcome:
    return Outcome(hashlib.sha256(name.encode()).digest(), b"inputs of " + name.encode(), first, last, b'{"ok":true}')


async def test_outcomes_are_found_by_their_keys_for_ever(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    first, second = outcome("first", 1, 2), outcome("second")
    async with one.session() as session:
        await session.append(facts("a", 1, 2), outcomes=[first, second])
    for store in (one, two):
        async with store.session() as session:
            unknown = outcome("unknown").key
            assert await session.outcomes([first.key, unknown, second.key]) == {first.key: first, second.key: second}
            assert await session.outcomes([]) == {}


async def test_an_outcome_is_never_written_over(store: Store) -> None:
    async with store.session() as session:
        await session.append([], outcomes=[outcome("x")])
    with pytest.raises(VersionConflict):
        async with store.session() as session:
            await session.append(facts("a", 1), outcomes=[replace(outcome("x"), answer=b"another")])
    async with store.session() as session:
        assert (await session.outcomes([outcome("x").key]))[outcome("x").key].answer == b'{"ok":true}'
        assert session.head.position == 0


def at(position: int, record_hash: bytes = b"hash", channel: str = "registry", follower: str = "scores") -> Checkpoint:
    return Checkpoint(follower, channel, position, record_hash)


async def test_checkpoints_move_by_compare_and_swap(store: Store) -> None:
    assert await store.checkpoints("scores") == {}
    await store.move([Move(0, at(5)), Move(0, at(2, channel="treasury")), Move(0, at(9, follower="other"))])
    assert await store.checkpoints("scores") == {"registry": at(5), "treasury": at(2, channel="treasury")}
    await store.move([Move(5, at(6, b"another"))])
    with pytest.raises(CheckpointMoved):
        await store.move([Move(5, at(7))])
    with pytest.raises(CheckpointMoved):
        await store.move([Move(0, at(7))])
    assert (await store.checkpoints("scores"))["registry"] == at(6, b"another")


async def test_moves_are_all_or_none(store: Store) -> None:
    with pytest.raises(CheckpointMoved):
        await store.move([Move(0, at(5)), Move(3, at(4, channel="treasury"))])
    assert await store.checkpoints("scores") == {}


async def test_moves_of_one_follower_in_one_session_continue_one_another(store: Store) -> None:
    async with store.session() as session:
        await session.append([], moves=[Move(0, at(1)), Move(1, at(4)), Move(4, at(9, b"end"))])
    assert await store.checkpoints("scores") == {"registry": at(9, b"end")}
    with pytest.raises(CheckpointMoved):
        async with store.session() as session:
            await session.append(facts("a", 1), moves=[Move(9, at(10)), Move(11, at(12))])
    assert await store.checkpoints("scores") == {"registry": at(9, b"end")}


async def test_a_zombie_whose_checkpoint_moved_stores_nothing_of_its_session(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await one.move([Move(0, at(1))])
    with pytest.raises(CheckpointMoved):
        async with two.session() as session:
            await session.append(facts("a", 1), outcomes=[outcome("x")], moves=[Move(0, at(2))])
    assert await one.head() == Head()
    async with one.session() as session:
        assert await session.outcomes([outcome("x").key]) == {}
    assert await one.checkpoints("scores") == {"registry": at(1)}


async def test_moves_and_facts_of_a_session_are_stored_together(store: Store) -> None:
    async with store.session() as session:
        await session.append(facts("a", 1), moves=[Move(0, at(3))])
        assert await store.checkpoints("scores") == {}
    assert await store.checkpoints("scores") == {"registry": at(3)}


async def test_a_channel_may_be_a_topic_and_partition(store: Store) -> None:
    channel = "kafka:registry.events@3"
    await store.move([Move(0, at(5, channel=channel))])
    assert await store.checkpoints("scores") == {channel: at(5, channel=channel)}


async def test_a_checkpoint_of_another_history_means_the_store_was_rewound(store: Store) -> None:
    await put(store, *facts("a", 1, 2, state=b"true"))
    await verify_checkpoint(store, at(0, b""))
    await verify_checkpoint(store, at(2, hashlib.sha256(b"true").digest()))
    with pytest.raises(StoreRewound):
        await verify_checkpoint(store, at(2, hashlib.sha256(b"other").digest()))
    with pytest.raises(StoreRewound) as rewound:
        await verify_checkpoint(store, at(3, hashlib.sha256(b"true").digest()))
    assert rewound.value.found == b""


async def test_an_error_in_the_body_rolls_everything_back(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.session() as session:
            await session.append(facts("a", 1), outcomes=[outcome("x")], moves=[Move(0, at(1))])
            raise ZeroDivisionError
    assert await store.head() == Head()
    assert list(await store.read(0)) == []
    assert await store.checkpoints("scores") == {}
    async with store.session() as session:
        assert await session.outcomes([outcome("x").key]) == {}
        await session.append(facts("a", 1))
    assert (await store.head()).position == 1


async def test_an_error_raised_by_seal_stores_nothing(store: Store) -> None:
    def seal(_event: StoredEvent, _position: int, _time_us: int) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with store.session() as session:
            await session.append(facts("a", 1), seal=seal)
    assert await store.head() == Head()


async def test_nothing_is_seen_by_readers_before_the_session_has_closed(open_store: Opener) -> None:
    writer, reader = await open_store(), await open_store()
    async with writer.session() as session:
        await session.append(facts("a", 1))
        assert list(await reader.read(0)) == []
        assert await reader.head() == Head()
        assert list(await reader.read_stream("a")) == []
    assert positions(await reader.read(0)) == [1]


async def test_a_caller_cancelled_in_the_body_stores_nothing_and_frees_the_lock(store: Store) -> None:
    inside = asyncio.Event()

    async def stuck() -> None:
        async with store.session() as session:
            await session.append(facts("a", 1))
            inside.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(stuck())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await put(store, *facts("a", 1))
    assert positions(await store.read(0)) == [1]


async def test_a_caller_cancelled_while_it_waits_for_the_lock_does_not_keep_it(store: Store) -> None:
    async def waiting() -> None:
        async with store.session() as session:
            await session.append(facts("b", 1))

    async with store.session() as session:
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.append(facts("a", 1))
    async with asyncio.timeout(5):
        await put(store, *facts("a", 2))
    assert [n.originator_id for n in await store.read(0)] == ["a", "a"]


async def test_writers_in_several_stores_take_turns_and_leave_no_hole(open_store: Opener) -> None:
    stores = [await open_store() for _ in range(3)]

    async def write(store: Store, name: str) -> None:
        for version in range(1, 21):
            await put(store, *facts(name, version))

    await asyncio.gather(*(write(store, f"s{index}") for index, store in enumerate(stores)))
    page = await stores[0].read(0)
    assert positions(page) == list(range(1, 61))
    for index in range(3):
        versions = [n.originator_version for n in page if n.originator_id == f"s{index}"]
        assert versions == list(range(1, 21))


async def test_news_are_the_facts_of_others_and_are_told_once(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await put(one, *facts("a", 1, 2))
    await put(one, *facts("a", 3))
    async with two.session() as session:
        assert positions(session.news) == [1, 2, 3]
        await session.append(facts("a", 4))
    async with two.session() as session:
        assert list(session.news) == []
    async with one.session() as session:
        assert positions(session.news) == [4]
        assert session.news[0].state == b"state"


async def test_news_are_told_once_even_when_the_session_fails(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await put(one, *facts("a", 1))
    with pytest.raises(ZeroDivisionError):
        async with two.session() as session:
            assert positions(session.news) == [1]
            raise ZeroDivisionError
    async with two.session() as session:
        assert list(session.news) == []


async def test_an_owner_who_has_folded_a_position_is_not_told_it_again(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await put(one, *facts("a", 1, 2, 3))
    two.seen(2)
    async with two.session() as session:
        assert positions(session.news) == [3]
    two.seen(1)  # never turns back
    async with two.session() as session:
        assert list(session.news) == []


async def test_more_news_than_a_page_are_told_whole(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    for start in (0, PAGE, 2 * PAGE):
        await put(one, *facts("a", *range(start + 1, start + PAGE + 1)))
    await put(one, *facts("b", 1))
    two.seen(1)
    async with two.session() as session:
        assert positions(session.news) == list(range(2, 3 * PAGE + 2))
        assert session.head == await one.head()


async def test_five_thousand_facts_go_in_one_session(store: Store) -> None:
    events = [StoredEvent(f"s{n % 700}", n // 700 + 1, "t", b"%d" % n) for n in range(5_000)]
    await put(store, *events)
    page = await store.read(0)
    assert positions(page) == list(range(1, 5_001))
    assert [n.state for n in page] == [event.state for event in events]


@pytest.mark.parametrize("state", [b"", b"\x00", b"\xff\xfe\x00\x80", bytes(range(256)) * 256, os.urandom(65_535)])
async def test_bytes_come_back_as_they_went_in(store: Store, state: bytes) -> None:
    await put(store, *facts("a", 1, state=state))
    assert [n.state for n in await store.read(0)] == [state]
    assert [e.state for e in await store.read_stream("a")] == [state]
    assert (await store.head()).record_hash == hashlib.sha256(state).digest()


async def test_a_session_may_record_nothing(store: Store) -> None:
    async with store.session() as session:
        assert list(await session.append([])) == []
    async with store.session():
        pass
    assert await store.head() == Head()


async def test_reading_goes_in_pages(store: Store) -> None:
    await put(store, *facts("a", *range(1, 8)))
    assert positions(await store.read(0, 3)) == [1, 2, 3]
    assert positions(await store.read(3, 3)) == [4, 5, 6]
    assert positions(await store.read(6, 3)) == [7]
    assert list(await store.read(7, 3)) == []
    assert list(await store.read(99)) == []


async def test_pages_of_large_facts_are_read_whole_in_the_end(store: Store) -> None:
    for version in range(1, 21):
        await put(store, *facts("a", *range(version * 20 - 19, version * 20 + 1), state=b"x" * 65_535))
    found: list[int] = []
    while page := await store.read(len(found)):
        found += positions(page)
    assert found == list(range(1, 401))


async def test_a_stream_is_read_in_pages_by_version(store: Store) -> None:
    await put(store, *facts("a", 1, 2), *facts("b", 1), *facts("a", 3, 4))
    assert [(e.originator_id, e.originator_version) for e in await store.read_stream("a", 1, 2)] == [("a", 2), ("a", 3)]
    assert [e.originator_version for e in await store.read_stream("a")] == [1, 2, 3, 4]
    assert list(await store.read_stream("a", 4)) == []


@pytest.mark.parametrize("stream", ["node/7c1e", "ünïcode/日本", "with space'\"", "x" * 500])
async def test_stream_names_are_any_text(store: Store, stream: str) -> None:
    await put(store, *facts(stream, 1))
    assert [e.originator_id for e in await store.read_stream(stream)] == [stream]


async def test_waiting_ends_at_once_when_the_record_is_there(store: Store) -> None:
    await put(store, *facts("a", 1))
    assert await store.wait(0, 0)
    assert await store.wait(0, 5)


async def test_waiting_times_out(store: Store) -> None:
    await put(store, *facts("a", 1))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert not await store.wait(1, 0.2)
    assert 0.15 < loop.time() - begun < 2
    assert not await store.wait(1, 0)


async def test_waiting_is_ended_by_a_commit_of_another_store(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    assert not await two.wait(0, 0.3)
    loop = asyncio.get_running_loop()
    waiting = [asyncio.create_task(two.wait(0, 10)) for _ in range(3)]
    await asyncio.sleep(0.05)
    begun = loop.time()
    await put(one, *facts("a", 1))
    assert all(await asyncio.gather(*waiting))
    assert loop.time() - begun < 0.5


async def test_a_rolled_back_session_wakes_nobody(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    waiting = asyncio.create_task(two.wait(0, 0.5))
    await asyncio.sleep(0.1)
    with pytest.raises(ZeroDivisionError):
        async with one.session() as session:
            await session.append(facts("a", 1))
            raise ZeroDivisionError
    assert not await waiting


async def test_a_snapshot_replaces_the_older_one_of_its_name(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    assert await one.load_snapshot("state", 1) is None
    first, second = Snapshot("state", 1, 10, b"h", b"\x00" * 100_000), Snapshot("state", 1, 20, b"i", b"new")
    await one.save_snapshot(first)
    assert await two.load_snapshot("state", 1) == first
    await two.save_snapshot(second)
    assert await one.load_snapshot("state", 1) == second
    assert await one.load_snapshot("other", 1) is None


async def test_a_snapshot_of_another_layout_is_ignored(store: Store) -> None:
    await store.save_snapshot(Snapshot("state", 2, 10, b"h", b"two"))
    assert await store.load_snapshot("state", 1) is None
    assert await store.load_snapshot("state", 3) is None


@dataclass
class Follower:
    """Reads everything a store commits while others write."""

    store: Store
    found: list[int]

    async def run(self, last: int) -> None:
        while len(self.found) < last:
            if await self.store.wait(len(self.found), 1):
                self.found += positions(await self.store.read(len(self.found), 7))


async def test_a_follower_sees_every_position_in_order_while_writers_write(open_store: Opener) -> None:
    writers = [await open_store() for _ in range(2)]
    follower = Follower(await open_store(), [])

    async def write(store: Store, name: str) -> None:
        for version in range(1, 41):
            await put(store, *facts(name, version))

    async with asyncio.timeout(20):
        await asyncio.gather(follower.run(80), *(write(w, f"s{i}") for i, w in enumerate(writers)))
    assert follower.found == list(range(1, 81))

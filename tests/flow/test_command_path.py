"""The one command path over a store: idempotency, atomic units, isolation of what goes wrong, restarts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from immutables import Map

from events.catalog import Catalog, Recorded, UpgradeNeeded
from events.envelope import decode_envelope, encode_envelope
from events.store import (
    Checkpoint,
    CheckpointMoved,
    Head,
    Move,
    Snapshot,
    StoreFull,
    StoreRewound,
    StoreUnavailable,
)
from infra.memory import MemoryLog, MemoryStore
from infra.postgres.store import PostgresStore
from services.kernel.appender import Appender
from services.kernel.directory import Directory, Key
from services.kernel.errors import AuthenticationFailed, DiskFull, OtherInputs, RecordTooLarge, Unavailable
from services.kernel.feed import DirectoryFeed
from tests.toy import CEILING, CeilingReached, Count, Counted, Counts, Stumble, catalog, request, running, service


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[MemoryStore | PostgresStore]:
    if request.param == "memory":
        yield MemoryStore("toy")
        return
    opened = await PostgresStore.open(request.getfixturevalue("database"), "toy")
    yield opened
    await opened.close()


async def test_an_accepted_command_is_durable_and_says_where(store: MemoryStore) -> None:
    async with running(store) as appender:
        (accepted,) = await appender.submit(request(Count("a", 2), "1"))
    (record,) = await store.read(0)
    assert (accepted.first, accepted.last, accepted.answer, accepted.hit) == (1, 1, b'{"total":2}', False)
    assert accepted.record_hash == hashlib.sha256(record.state).digest()
    envelope = decode_envelope(record.state)
    assert encode_envelope(envelope) == record.state
    assert (envelope.actor, envelope.commandid, envelope.subject) == ("member/1", "1", "count/a")
    assert (envelope.streamversion, envelope.position) == ("1", "1")


async def test_the_same_command_again_gets_the_first_answer(store: MemoryStore) -> None:
    async with running(store) as appender:
        (first,) = await appender.submit(request(Count("a", 2), "1"))
        await appender.submit(request(Count("a", 5), "2"))
        (again,) = await appender.submit(request(Count("a", 2), "1"))
    assert again.hit
    assert (again.first, again.last, again.answer) == (first.first, first.last, first.answer)
    assert (again.record_hash, again.time_us) == (first.record_hash, first.time_us)
    assert len(await store.read(0)) == 2


async def test_the_same_id_with_other_inputs_is_refused(store: MemoryStore) -> None:
    async with running(store) as appender:
        await appender.submit(request(Count("a", 2), "1"))
        with pytest.raises(OtherInputs):
            await appender.submit(request(Count("a", 3), "1"))
        (other,) = await appender.submit(request(Count("a", 3), "1", actor="member/2"))
    assert not other.hit


async def test_repetitions_inside_one_group_count_once(store: MemoryStore) -> None:
    async with running(store) as appender:
        found = await asyncio.gather(*(appender.submit(request(Count("a"), "1")) for _ in range(20)))
    assert sorted(accepted.hit for (accepted,) in found) == [False] + [True] * 19
    assert len(await store.read(0)) == 1


async def test_a_refusal_records_nothing_and_binds_only_its_attempt(store: MemoryStore) -> None:
    async with running(store) as appender:
        await appender.submit(request(Count("a", CEILING), "1"))
        before = appender.state
        with pytest.raises(CeilingReached):
            await appender.submit(request(Count("a", 1), "2"))
        assert appender.state == before
        await appender.submit(request(Count("a", -1), "3"))
        (accepted,) = await appender.submit(request(Count("a", 1), "2"))
    assert not accepted.hit


async def test_a_unit_is_recorded_whole_or_not_at_all(store: MemoryStore) -> None:
    async with running(store) as appender:
        with pytest.raises(CeilingReached):
            await appender.submit(request(Count("a"), "1"), request(Count("a", CEILING), "2"))
        assert appender.state == Counts()
        one, two = await appender.submit(request(Count("a"), "1"), request(Count("a"), "2"))
    assert (one.last, two.last) == (1, 2)
    assert [event.originator_version for event in await store.read(0)] == [1, 2]


async def test_a_command_that_needs_no_fact_is_remembered(store: MemoryStore) -> None:
    async with running(store) as appender:
        (accepted,) = await appender.submit(request(Count("a", 0), "1"))
        (again,) = await appender.submit(request(Count("a", 0), "1"))
    assert (accepted.first, accepted.last, again.hit) == (0, 0, True)


async def test_a_mistake_in_one_decider_does_not_fail_its_neighbours(store: MemoryStore) -> None:
    async with running(store) as appender:
        found = await asyncio.gather(
            appender.submit(request(Count("a"), "1")),
            appender.submit(request(Stumble(), "2")),
            appender.submit(request(Count("a"), "3")),
            return_exceptions=True,
        )
    assert isinstance(found[1], ZeroDivisionError)
    assert [event.id for event in await store.read(0)] == [1, 2]
    assert not isinstance(found[0], BaseException)
    assert not isinstance(found[2], BaseException)


async def test_a_fact_over_65535_bytes_is_refused(store: MemoryStore) -> None:
    async with running(store) as appender:
        with pytest.raises(RecordTooLarge):
            await appender.submit(request(Count("a", padding="x" * 65_400), "1"))
        await appender.submit(request(Count("a", padding="x" * 65_000), "2"))
    (record,) = await store.read(0)
    assert len(record.state) <= 65_535


async def test_a_zombie_whose_checkpoint_moved_rolls_back_alone(store: MemoryStore) -> None:
    def move(before: int, to: int) -> Move:
        return Move(before, Checkpoint("policy/x", "other", to, b"hash"))

    async with running(store) as appender:
        await appender.submit(request(Count("a"), "1"), moves=[move(0, 5)])
        found = await asyncio.gather(
            appender.submit(request(Count("zombie"), "2"), moves=[move(0, 5)]),
            appender.submit(request(Count("a"), "3")),
            return_exceptions=True,
        )
        assert isinstance(found[0], CheckpointMoved)
        assert dict(appender.state.counts) == {"a": 2}
    assert (await store.checkpoints("policy/x"))["other"].position == 5


async def test_two_writers_of_one_service_see_each_others_facts(database: str) -> None:
    one, two = await PostgresStore.open(database, "toy"), await PostgresStore.open(database, "toy")
    async with running(one) as first, running(two) as second:
        submits = [
            appender.submit(request(Count("a"), f"{name}-{number}"))
            for number in range(300)
            for name, appender in (("one", first), ("two", second))
        ]
        await asyncio.gather(*submits)
        assert dict((await first.refresh()).counts) == dict((await second.refresh()).counts) == {"a": 600}
    assert [event.originator_version for event in await one.read(0)] == list(range(1, 601))
    await one.close()
    await two.close()


async def test_a_restart_folds_the_same_state_with_and_without_a_snapshot(store: MemoryStore) -> None:
    async with running(store) as appender:
        for number in range(5):
            await appender.submit(request(Count(f"n{number % 2}"), str(number)))
        await appender.snapshot()
        await appender.submit(request(Count("later"), "x"))
        before = appender.state
    async with running(store) as again:
        assert again.state == before
        (accepted,) = await again.submit(request(Count("n0"), "y"))
    assert accepted.last == 7
    assert (await store.read_stream("count/n0"))[-1].originator_version == 4


async def test_a_key_that_died_between_edge_and_lock_carries_no_command(store: MemoryStore) -> None:
    known = Directory(keys=Map({"alive": Key("alive", "member/1", bytes(32))}))

    async def directory() -> Directory:
        return known

    async with running(store, directory=directory) as appender:
        await appender.submit(replace(request(Count("a"), "1"), kid="alive"))
        with pytest.raises(AuthenticationFailed):
            await appender.submit(replace(request(Count("a"), "2"), kid="dead"))
    assert len(await store.read(0)) == 1


class Away(MemoryStore):
    """A store whose database is away, or full, when told so."""

    trouble: Exception | None = None

    def session(self):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the adapter's own type
        if self.trouble is not None:
            raise self.trouble
        return super().session()


async def test_callers_are_told_to_wait_while_the_database_is_away_and_nothing_is_lost() -> None:
    store = Away("toy")
    async with running(store, service()) as appender:
        store.trouble = StoreUnavailable("gone")
        with pytest.raises(Unavailable) as caught:
            await appender.submit(request(Count("a"), "1"))
        assert caught.value.fields["retry_after_seconds"] > 0
        store.trouble = StoreFull("no space left")
        with pytest.raises(DiskFull):
            await appender.submit(request(Count("a"), "1"))
        store.trouble = None
        (accepted,) = await appender.submit(request(Count("a"), "1"))
    assert (accepted.last, accepted.hit) == (1, False)


class Strict(Catalog):
    """A catalog that does not know one type yet."""

    blind = False

    def decode(self, raw: bytes) -> Recorded:
        if self.blind:
            raise UpgradeNeeded("toy.counted.v2")
        return super().decode(raw)


async def test_a_fact_of_newer_software_stops_the_writer_instead_of_leaving_a_hole() -> None:
    log = MemoryLog()
    ours, theirs = MemoryStore("toy", log=log), MemoryStore("toy", log=log)
    known = Strict([Counted])
    appender = Appender(service(), ours, known, nobody, b"key")
    await appender.load()
    serving = asyncio.create_task(appender.run())
    await appender.submit(request(Count("a"), "1"))
    async with running(theirs) as other:
        await other.submit(request(Count("a"), "2"))
    known.blind = True
    with pytest.raises(Unavailable):
        await appender.submit(request(Count("a"), "3"))
    with pytest.raises(UpgradeNeeded):
        await serving
    await appender.snapshot()
    async with running(theirs) as other:
        await other.submit(request(Count("a"), "4"))
    known.blind = False
    serving = asyncio.create_task(appender.run())
    (accepted,) = await appender.submit(request(Count("a"), "3"))
    serving.cancel()
    assert json.loads(accepted.answer) == {"total": 4}
    async with running(ours) as again:  # the snapshot kept in between holds
        assert dict(again.state.counts) == {"a": 4}


async def test_a_rewound_store_stops_the_writer_that_remembers_more(store: MemoryStore) -> None:
    appender = Appender(service(), store, catalog(), nobody, b"key")
    serving = asyncio.create_task(appender.run())
    await appender.submit(request(Count("a"), "1"))
    await appender.submit(request(Count("a"), "2"))
    await rewind(store, 1)
    with pytest.raises(Unavailable):
        await appender.submit(request(Count("a"), "3"))
    with pytest.raises(StoreRewound):
        await serving
    with pytest.raises(StoreRewound):
        await appender.refresh()


async def test_a_directory_folded_from_records_that_are_gone_is_not_answered() -> None:
    store = MemoryStore("toy")
    async with running(store) as appender:
        await appender.submit(request(Count("a"), "1"))
        await appender.submit(request(Count("a"), "2"))
    feed = DirectoryFeed(store, catalog())
    await feed.current()
    await rewind(store, 1)
    async with running(MemoryStore("toy", log=store._log)) as appender:
        await appender.submit(request(Count("b"), "x"))
        await appender.submit(request(Count("b"), "y"))
    with pytest.raises(StoreRewound):
        await feed.current()


async def rewind(store: MemoryStore | PostgresStore, position: int) -> None:
    """Take a store back, as restoring an older copy of its database does."""
    if isinstance(store, MemoryStore):
        log = store._log
        del log.records[position:]
        log.head = Head(position, 0, hashlib.sha256(log.records[-1].state).digest())
        log.versions = {str(record.originator_id): record.originator_version for record in log.records}
        log.outcomes.clear()
        return
    await store._pool.execute("DELETE FROM toy.events WHERE notification_id > $1", position)
    await store._pool.execute("DELETE FROM toy.outcomes WHERE last > $1", position)


async def nobody() -> Directory:
    return Directory()


async def test_a_snapshot_of_another_layout_costs_time_and_nothing_else(store: MemoryStore) -> None:
    async with running(store) as appender:
        await appender.submit(request(Count("a", 3), "1"))
        (record,) = await store.read(0)
        digest = hashlib.sha256(record.state).digest()
        await store.save_snapshot(Snapshot("state", service().snapshot_version, 1, digest, b"\x92\x80\x01"))
    async with running(store) as again:
        assert dict(again.state.counts) == {"a": 3}


async def test_callers_are_not_told_where_the_database_is() -> None:
    store = Away("toy")
    async with running(store) as appender:
        store.trouble = StoreUnavailable("cannot reach 10.0.0.5 as commons")
        with pytest.raises(Unavailable) as caught:
            await appender.submit(request(Count("a"), "1"))
    assert "10.0.0.5" not in str(caught.value.detail)

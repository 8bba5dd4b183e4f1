"""The eventsourcing library's own recorder tests, run against our stores, and its recorder reading our tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.postgres import PostgresProcessRecorder
from eventsourcing.tests import persistence as library

from events.store import Checkpoint, Move
from infra.bench.library import library_datastore
from infra.memory import MemoryStore
from infra.postgres.store import PostgresStore
from tests.contract.library_facade import (
    AggregateFacade,
    ApplicationFacade,
    LoopThread,
    ProcessFacade,
    TrackingFacade,
)


class OnMemory:
    """Makes each test a store in memory."""

    @pytest.fixture(autouse=True)
    def _store(self) -> Iterator[None]:
        self.loop = LoopThread()
        self.store: Any = MemoryStore("library")
        yield
        self.loop.close()


class OnPostgres:
    """Makes each test a store on a database of its own."""

    @pytest.fixture(autouse=True)
    def _store(self, database: str) -> Iterator[None]:
        self.loop = LoopThread()
        self.store: Any = self.loop.run(PostgresStore.open(database, "library"))
        yield
        self.loop.run(self.store.close())
        self.loop.close()


class TextIds:
    """Our streams are named by text; the library's tests take that as well."""

    def new_originator_id(self) -> str:
        return str(uuid4())


class Aggregates(TextIds, library.AggregateRecorderTestCase):
    __test__ = False

    def create_recorder(self) -> AggregateFacade:
        return AggregateFacade(self.store, self.loop)  # type: ignore[attr-defined]


class Applications(TextIds, library.ApplicationRecorderTestCase[ApplicationFacade]):
    __test__ = False

    def create_recorder(self) -> ApplicationFacade:
        return ApplicationFacade(self.store, self.loop)  # type: ignore[attr-defined]

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class Trackings(library.TrackingRecorderTestCase):
    __test__ = False

    def create_recorder(self) -> TrackingFacade:
        return TrackingFacade(self.store, self.loop)  # type: ignore[attr-defined]


class Processes(TextIds, library.ProcessRecorderTestCase):
    __test__ = False

    def create_recorder(self) -> ProcessFacade:
        return ProcessFacade(self.store, self.loop)  # type: ignore[attr-defined]


class NonInterleaving(TextIds, library.NonInterleavingNotificationIDsBaseCase):
    __test__ = False

    def create_recorder(self) -> ApplicationFacade:
        return ApplicationFacade(self.store, self.loop)  # type: ignore[attr-defined]


class TestMemoryAggregates(OnMemory, Aggregates):
    __test__ = True


class TestMemoryApplications(OnMemory, Applications):
    __test__ = True


class TestMemoryTrackings(OnMemory, Trackings):
    __test__ = True


class TestMemoryProcesses(OnMemory, Processes):
    __test__ = True


class TestMemoryNonInterleaving(OnMemory, NonInterleaving):
    __test__ = True


class TestPostgresAggregates(OnPostgres, Aggregates):
    __test__ = True


class TestPostgresApplications(OnPostgres, Applications):
    __test__ = True


class TestPostgresTrackings(OnPostgres, Trackings):
    __test__ = True


class TestPostgresProcesses(OnPostgres, Processes):
    __test__ = True


class TestPostgresNonInterleaving(OnPostgres, NonInterleaving):
    __test__ = True


@pytest.fixture
def library_recorder(database: str) -> Iterator[PostgresProcessRecorder]:
    """Open the library's own recorder on the tables of service `library`; it creates nothing."""
    with library_datastore(database, "library") as datastore:
        yield PostgresProcessRecorder(datastore, events_table_name="events", tracking_table_name="tracking")


async def _fill(database: str) -> None:
    store = await PostgresStore.open(database, "library")
    try:
        async with store.session() as session:
            await session.append([StoredEvent("a", 1, "t1", b"one"), StoredEvent("b", 7, "t2", b"two")])
        async with store.session() as session:
            move = Move(0, Checkpoint("scores", "registry", 5, b"hash"))
            await session.append([StoredEvent("a", 2, "t1", b"three")], moves=[move])
    finally:
        await store.close()


async def test_the_librarys_own_recorder_reads_our_tables(
    database: str, library_recorder: PostgresProcessRecorder
) -> None:
    await _fill(database)
    found = library_recorder.select_notifications(start=1, limit=10)
    assert [(n.id, n.originator_id, n.originator_version, n.topic, n.state) for n in found] == [
        (1, "a", 1, "t1", b"one"),
        (2, "b", 7, "t2", b"two"),
        (3, "a", 2, "t1", b"three"),
    ]
    assert [e.state for e in library_recorder.select_events("a", gt=1)] == [b"three"]
    assert library_recorder.max_notification_id() == 3
    assert library_recorder.max_tracking_id("scores@registry") == 5
    assert library_recorder.has_tracking_id("scores@registry", 4)


async def test_the_librarys_recorder_cannot_append_past_our_lock(
    database: str, library_recorder: PostgresProcessRecorder
) -> None:
    await _fill(database)
    library_recorder.create_table()  # adds its own type and function, leaves our tables as they are
    with pytest.raises(IntegrityError):
        library_recorder.insert_events([StoredEvent("a", 3, "t1", b"past the lock")])
    assert library_recorder.max_notification_id() == 3
    assert library_recorder.max_tracking_id("scores@registry") == 5

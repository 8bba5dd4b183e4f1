"""What only the PostgreSQL store can get wrong: lost connections, several processes starting, restored backups."""

# ruff: noqa: PT012 - what raises is a whole session, so the block has several statements

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg.conninfo import conninfo_to_dict

from events.store import Head, StoreError, StoreFull, StoreRewound, StoreUnavailable, VersionConflict
from infra.postgres.pool import open_pool, translated
from infra.postgres.store import PostgresStore, open_stores
from infra.postgres.versions import StreamVersions


@pytest.fixture
async def store(database: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(database, "metering")
    yield store
    await store.close()


async def put(store: PostgresStore, stream: str, *versions: int, state: bytes = b"state") -> None:
    async with store.session() as session:
        await session.append([StoredEvent(stream, version, "t", state) for version in versions])


async def execute(database: str, statement: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def kill(database: str, application_name: str = "commons") -> None:
    await execute(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND application_name = '{application_name}'",
    )


async def eventually(check: Callable[[], object], seconds: float = 5) -> None:
    """Try an asynchronous step again while the database is said to be away."""
    async with asyncio.timeout(seconds):
        while True:
            with suppress(StoreUnavailable):
                await check()  # type: ignore[misc]
                return
            await asyncio.sleep(0.02)


async def test_a_backend_killed_before_the_append_stores_nothing(database: str, store: PostgresStore) -> None:
    with pytest.raises(StoreUnavailable):
        async with store.session() as session:
            await kill(database)
            await session.append([StoredEvent("a", 1, "t", b"lost")])
    await eventually(lambda: put(store, "a", 1))
    assert [fact.state for fact in await store.read(0)] == [b"state"]


async def test_a_backend_killed_before_the_commit_stores_nothing(database: str, store: PostgresStore) -> None:
    with pytest.raises(StoreUnavailable):
        async with store.session() as session:
            await session.append([StoredEvent("a", 1, "t", b"lost")])
            await kill(database)
    await eventually(lambda: put(store, "a", 1))
    assert [fact.state for fact in await store.read(0)] == [b"state"]


async def test_an_error_of_the_body_is_told_although_the_connection_is_lost_too(
    database: str, store: PostgresStore
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.session() as session:
            await session.append([StoredEvent("a", 1, "t", b"lost")])
            await kill(database)
            raise ZeroDivisionError
    await eventually(lambda: put(store, "a", 1))


async def test_a_commit_whose_caller_is_cancelled_still_ends_and_is_told_as_news(
    database: str, store: PostgresStore
) -> None:
    await execute(
        database,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON metering.events DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    task = asyncio.create_task(put(store, "a", 1))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [fact.id for fact in await store.read(0)] == [1]
    async with store.session() as session:
        assert [fact.id for fact in session.news] == [1]  # its owner was never told that it is stored
        await session.append([StoredEvent("a", 2, "t", b"state")])


async def test_idle_connections_that_were_killed_are_replaced(database: str, store: PostgresStore) -> None:
    await put(store, "a", 1)
    await asyncio.gather(*(store.read(0) for _ in range(8)))
    await kill(database)
    await asyncio.sleep(0.1)
    assert len(await store.read(0)) == 1
    await put(store, "a", 2)


async def test_a_killed_listener_listens_again(database: str, store: PostgresStore) -> None:
    assert not await store.wait(0, 0.3)
    await kill(database, "commons wake-ups")
    await asyncio.sleep(0.5)
    other = await PostgresStore.open(database, "metering")
    try:
        waiting = asyncio.create_task(store.wait(0, 10))
        await asyncio.sleep(0.05)
        begun = asyncio.get_running_loop().time()
        await put(other, "a", 1)
        assert await waiting
        assert asyncio.get_running_loop().time() - begun < 0.15
    finally:
        await other.close()


async def test_a_lost_wake_up_costs_a_delay_and_no_fact(database: str, store: PostgresStore) -> None:
    assert not await store.wait(0, 0.3)
    other = await PostgresStore.open(database, "metering")
    try:
        waiting = asyncio.create_task(store.wait(0, 10))
        await asyncio.sleep(0.05)
        await kill(database, "commons wake-ups")
        await put(other, "a", 1)
        async with asyncio.timeout(3):
            assert await waiting
    finally:
        await other.close()


async def test_waiting_on_an_empty_store_does_not_ask_again_and_again(store: PostgresStore) -> None:
    asked = 0
    ask = store.head

    async def counting() -> Head:
        nonlocal asked
        asked += 1
        return await ask()

    store.head = counting  # type: ignore[method-assign]
    assert not await store.wait(0, 0.6)
    assert asked <= 5


async def test_stores_over_one_connection_that_begin_to_wait_at_once_are_all_woken(database: str) -> None:
    names = [f"service{number}" for number in range(5)]
    async with open_stores(database, names) as stores:
        waiting = [asyncio.create_task(stores[name].wait(0, 10)) for name in names]
        await asyncio.sleep(0.5)
        begun = asyncio.get_running_loop().time()
        for name in names:
            await put(stores[name], "a", 1)
        assert all(await asyncio.gather(*waiting))
        assert asyncio.get_running_loop().time() - begun < 0.5
        async with open_stores(database, names) as others:
            later = [asyncio.create_task(stores[name].wait(1, 10)) for name in names]
            await asyncio.sleep(0.1)
            begun = asyncio.get_running_loop().time()
            await asyncio.gather(*(put(others[name], "a", 2) for name in names))
            assert all(await asyncio.gather(*later))
            assert asyncio.get_running_loop().time() - begun < 0.5


class Door:
    """A socket in front of the database that can be shut: connections break and new ones are refused."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.target = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
        self.folder = folder
        self.server: asyncio.Server | None = None
        self.open_writers: set[asyncio.StreamWriter] = set()

    @property
    def dsn(self) -> str:
        query = {"host": str(self.folder), "port": "5432"}
        query |= {name: self.target[name] for name in ("passfile", "password") if name in self.target}
        return f"postgresql://{self.target['user']}@/{self.target['dbname']}?{urlencode(query)}"

    async def open(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, self.folder / ".s.PGSQL.5432")

    async def shut(self) -> None:
        assert self.server is not None
        self.server.close()
        (self.folder / ".s.PGSQL.5432").unlink(missing_ok=True)
        for writer in list(self.open_writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.target["host"], self.target.get("port", "5432")
        if host.startswith("/"):
            inner_reader, inner_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        self.open_writers |= {writer, inner_writer}
        await asyncio.gather(self._pump(reader, inner_writer), self._pump(inner_reader, writer))
        self.open_writers -= {writer, inner_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_a_store_recovers_by_itself_when_the_database_comes_back(database: str, tmp_path: Path) -> None:
    door = Door(database, tmp_path)
    await door.open()
    store = await PostgresStore.open(door.dsn, "metering")
    try:
        await put(store, "a", 1)
        assert await store.wait(0, 1)
        assert not await store.wait(1, 0.2)
        await door.shut()
        for away in (store.head, lambda: store.read(0), lambda: put(store, "a", 2)):
            with pytest.raises(StoreUnavailable):
                await away()
        assert not await store.wait(1, 0.3)
        await door.open()
        await eventually(lambda: put(store, "a", 2))
        assert [fact.id for fact in await store.read(0)] == [1, 2]
        assert not await store.wait(2, 2.5)  # time for the listener to come back
        waiting = asyncio.create_task(store.wait(2, 5))
        await put(store, "a", 3)
        assert await waiting
    finally:
        await store.close()
        await door.shut()


async def test_a_database_that_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await PostgresStore.open(f"postgresql://nobody@/none?host={tmp_path}", "metering")


async def test_many_processes_may_create_the_tables_at_once(database: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(database, "metering", pool_size=1) for _ in range(8)))
    await put(stores[0], "a", 1)
    for store in stores:
        assert (await store.head()).position == 1
        await store.close()


async def test_tables_of_a_newer_program_are_refused(database: str, store: PostgresStore) -> None:
    await execute(database, "INSERT INTO metering.layout VALUES (99)")
    with pytest.raises(StoreError, match="layout 99"):
        await PostgresStore.open(database, "metering")


async def test_a_writer_stops_when_the_database_is_an_older_one(database: str, store: PostgresStore) -> None:
    await put(store, "a", 1, 2)
    await execute(database, "DELETE FROM metering.events WHERE notification_id = 2")
    with pytest.raises(StoreRewound) as rewound:
        await put(store, "a", 3)
    assert rewound.value.found == b""


async def test_a_writer_stops_when_the_database_has_another_history(database: str, store: PostgresStore) -> None:
    await put(store, "a", 1, 2)
    await execute(database, "UPDATE metering.events SET state = 'another' WHERE notification_id = 2")
    with pytest.raises(StoreRewound):
        await put(store, "a", 3)


async def test_services_of_one_database_do_not_see_each_other(database: str) -> None:
    async with open_stores(database, ["metering", "registry"]) as stores:
        await put(stores["metering"], "a", 1)
        assert await stores["registry"].head() == Head()
        waiting = asyncio.create_task(stores["registry"].wait(0, 0.3))
        async with stores["metering"].session(), asyncio.timeout(5):
            await put(stores["registry"], "a", 7)  # the other service's lock is held meanwhile
        assert await waiting
        assert [fact.originator_version for fact in await stores["registry"].read(0)] == [7]


async def test_readers_may_have_a_pool_that_cannot_write(database: str) -> None:
    async with AsyncExitStack() as stack:
        readers = await open_pool(database, size=1, read_only=True)
        stack.push_async_callback(readers.close)
        stores = await stack.enter_async_context(open_stores(database, ["metering"], readers=readers))
        await put(stores["metering"], "a", 1)
        assert len(await stores["metering"].read(0)) == 1
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await readers.execute("DELETE FROM metering.events")


async def test_a_page_of_large_facts_ends_early(store: PostgresStore) -> None:
    for version in range(1, 401, 40):
        await put(store, "a", *range(version, version + 40), state=b"x" * 65_535)
    await store.read(0)  # tells the store how large they are
    page = await store.read(0)
    assert 100 < len(page) < 150
    assert len(await store.read(0, 10)) == 10


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (asyncpg.DiskFullError("no space left"), StoreFull),
        (asyncpg.UniqueViolationError("twice"), VersionConflict),
        (asyncpg.AdminShutdownError("terminating"), StoreUnavailable),
        (asyncpg.CannotConnectNowError("starting up"), StoreUnavailable),
        (asyncpg.TooManyConnectionsError("too many"), StoreUnavailable),
        (asyncpg.IdleInTransactionSessionTimeoutError("frozen"), StoreUnavailable),
        (asyncpg.LockNotAvailableError("lock timeout"), StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("gone"), StoreUnavailable),
        (asyncpg.InterfaceError("pool is closing"), StoreUnavailable),
        (ConnectionResetError("reset"), StoreUnavailable),
        (TimeoutError(), StoreUnavailable),
        (asyncpg.UndefinedTableError("a mistake of ours"), asyncpg.UndefinedTableError),
        (asyncpg.InterfaceError("another operation is in progress"), asyncpg.InterfaceError),
        (asyncpg.DataError("not closed under addition"), asyncpg.DataError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_errors_of_the_driver_are_told_in_the_words_of_the_port(cause: Exception, told: type[Exception]) -> None:
    with pytest.raises(told), translated():
        raise cause


def test_remembered_versions_are_bounded_and_the_oldest_go_first() -> None:
    versions = StreamVersions(limit=2)
    versions.learn({"a": 1, "b": 1}, 2)
    versions.learn({"a": 2}, 3)
    versions.learn({"c": 1}, 4)
    assert versions.among(["a", "b", "c"]) == {"a": 2, "c": 1}
    versions.skip_to(9)
    assert versions.among(["a", "b", "c"]) == {}

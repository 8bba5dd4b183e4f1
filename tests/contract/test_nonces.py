"""What every nonce store promises, judged over all adapters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest

from events.store import StoreUnavailable
from infra.http.nonces import KEEP_MS, PRUNE_EVERY_MS, MemoryNonces, PostgresNonces, open_nonces
from services.kernel.nonces import Nonces


@dataclass
class Clock:
    now_ms: int = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


Opener = Callable[[], Awaitable[Nonces]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "postgres"])
async def open_store(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Opener]:
    opened: list[PostgresNonces] = []
    memory = MemoryNonces(clock)

    async def opener() -> Nonces:
        if request.param == "memory":
            return memory
        opened.append(await open_nonces(request.getfixturevalue("database"), clock))
        return opened[-1]

    yield opener
    for nonces in opened:
        await nonces.close()


async def test_a_nonce_is_taken_once(open_store: Opener, clock: Clock) -> None:
    nonces = await open_store()
    until = clock.now_ms + 300_000
    assert await nonces.take("k", "n", until)
    assert not await nonces.take("k", "n", until)
    assert not await nonces.take("k", "n", until + 1)
    assert await nonces.take("k", "m", until)
    assert await nonces.take("other", "n", until)


async def test_of_many_at_once_exactly_one_wins(open_store: Opener, clock: Clock) -> None:
    one, two = await open_store(), await open_store()
    until = clock.now_ms + 300_000
    won = await asyncio.gather(*((one, two)[index % 2].take("k", f"n{index % 50}", until) for index in range(400)))
    assert sum(won) == 50


async def test_names_do_not_run_into_one_another(open_store: Opener, clock: Clock) -> None:
    nonces = await open_store()
    assert await nonces.take("ab", "c", clock.now_ms)
    assert await nonces.take("a", "bc", clock.now_ms)


async def test_a_nonce_is_remembered_while_its_request_could_be_taken(open_store: Opener, clock: Clock) -> None:
    nonces = await open_store()
    until = clock.now_ms + 300_000
    assert await nonces.take("k", "n", until)
    for _ in range(3):
        clock.now_ms += 100_000
        assert await nonces.take("k", f"n{clock.now_ms}", until)
    assert not await nonces.take("k", "n", until)


async def test_old_nonces_are_forgotten_so_that_the_table_stays_small(open_store: Opener, clock: Clock) -> None:
    nonces = await open_store()
    assert await nonces.take("k", "n", clock.now_ms)
    clock.now_ms += PRUNE_EVERY_MS + KEEP_MS + 1
    assert await nonces.take("k", "later", clock.now_ms)
    assert await nonces.take("k", "n", clock.now_ms), "forgotten, so free again; its request is refused for its age"


async def test_several_processes_may_open_the_table_at_once(database: str, clock: Clock) -> None:
    opened = await asyncio.gather(*(open_nonces(database, clock) for _ in range(4)))
    until = clock.now_ms + 1_000
    assert sorted(await asyncio.gather(*(nonces.take("k", "n", until) for nonces in opened))) == [False] * 3 + [True]
    for nonces in opened:
        await nonces.close()


async def test_a_database_that_goes_away_is_told_and_comes_back(database: str, clock: Clock) -> None:
    nonces = await open_nonces(database, clock)
    until = clock.now_ms + 1_000
    assert await nonces.take("k", "n", until)
    admin = await asyncpg.connect(database)
    await admin.execute("ALTER TABLE edge.nonces RENAME TO hidden")
    with pytest.raises(asyncpg.UndefinedTableError):
        await nonces.take("k", "m", until)
    await admin.execute("ALTER TABLE edge.hidden RENAME TO nonces")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'commons nonces'"
    )
    await admin.close()
    for _ in range(20):
        try:
            assert await nonces.take("k", "m", until)
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    assert not await nonces.take("k", "m", until)
    await nonces.close()

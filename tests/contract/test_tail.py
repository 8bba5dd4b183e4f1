"""A tailing reader misses nothing: writers race, roll back, commit slowly, and their backends are killed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from events.store import StoreUnavailable
from infra.postgres.store import PostgresStore

WRITERS = 4
SEED = 20_261_120


@dataclass
class Tail:
    """What a reader following by position has seen."""

    tokens: list[bytes] = field(default_factory=list)
    interrupted: int = 0

    async def follow(self, store: PostgresStore, writers_done: asyncio.Event) -> None:
        """Read until the writers are done and nothing is left."""
        while True:
            done = writers_done.is_set()
            try:
                page = await store.read(len(self.tokens), 700)
            except StoreUnavailable:
                self.interrupted += 1
                await asyncio.sleep(0.02)
                continue
            for fact in page:
                assert fact.id == len(self.tokens) + 1, "a position was skipped"
                self.tokens.append(fact.state)
            if not page:
                if done:
                    return
                await store.wait(len(self.tokens), 0.5)


@asynccontextmanager
async def backends_killed(dsn: str, every_seconds: float) -> AsyncIterator[list[int]]:
    """Kill a random backend of the stores again and again while the block runs."""
    killed: list[int] = []
    dice = random.Random(SEED)

    async def kill() -> None:
        admin = await asyncpg.connect(dsn, server_settings={"application_name": "killer"})
        try:
            while True:
                await asyncio.sleep(every_seconds)
                query = (
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'commons%'"
                )
                pids = [row["pid"] for row in await admin.fetch(query)]
                if pids and await admin.fetchval("SELECT pg_terminate_backend($1)", pid := dice.choice(pids)):
                    killed.append(pid)
        finally:
            await admin.close()

    task = asyncio.create_task(kill())
    try:
        yield killed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def write_in_processes(dsn: str, facts: int, folder: Path) -> None:
    """Run the writer processes to their end."""
    script = Path(__file__).with_name("tail_writer.py")
    processes = []
    for number in range(WRITERS):
        arguments = [dsn, str(number), str(facts // WRITERS), str(SEED + number), str(folder / f"{number}.log")]
        processes.append(await asyncio.create_subprocess_exec(sys.executable, str(script), *arguments))
    try:
        assert [await process.wait() for process in processes] == [0] * WRITERS
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()


def fates(folder: Path) -> dict[str, list[list[bytes]]]:
    """Return the batches of tokens by fate: A acknowledged, R rolled back, U unknown."""
    found: dict[str, list[list[bytes]]] = {"A": [], "R": [], "U": []}
    for number in range(WRITERS):
        for line in (folder / f"{number}.log").read_text().splitlines():
            fate, attempt, size = line.split()
            found[fate].append([f"{number}:{attempt}:{index}".encode() for index in range(int(size))])
    return found


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(int(os.environ.get("COMMONS_TAIL_FACTS", "100000")), id="some"),
        pytest.param(1_000_000, id="many", marks=pytest.mark.soak),
    ],
)
async def test_a_tailing_reader_misses_nothing(database: str, tmp_path: Path, facts: int) -> None:
    store = await PostgresStore.open(database, "metering")
    tail, writers_done = Tail(), asyncio.Event()
    try:
        async with asyncio.timeout(60 + facts / 1_000), asyncio.TaskGroup() as group:
            group.create_task(tail.follow(store, writers_done))
            async with backends_killed(database, every_seconds=0.1) as killed:
                await write_in_processes(database, facts, tmp_path)
            writers_done.set()
    finally:
        await store.close()

    by_fate = fates(tmp_path)
    seen = set(tail.tokens)
    assert len(seen) == len(tail.tokens), "a fact was stored or read twice"
    acknowledged = {token for batch in by_fate["A"] for token in batch}
    assert len(acknowledged) >= facts // WRITERS * WRITERS
    assert acknowledged <= seen, "an acknowledged fact is missing"
    assert not any(token in seen for batch in by_fate["R"] for token in batch), "a rolled back fact is there"
    unknown = 0
    for batch in by_fate["U"]:
        stored = sum(token in seen for token in batch)
        assert stored in {0, len(batch)}, "half of a session is there"
        unknown += stored
    assert len(seen) == len(acknowledged) + unknown
    assert len(by_fate["R"]) > 10
    assert len(killed) > 5

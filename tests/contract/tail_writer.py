"""One writer process of test_tail: appends with random rollbacks and slow commits, and logs what became of each batch.

Arguments: DSN, writer number, facts to have acknowledged, seed, log file. A line of the log is
`<fate> <attempt> <facts>`, fate A (acknowledged), R (rolled back) or U (unknown: the connection died).
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import TextIO

from eventsourcing.persistence import StoredEvent

from events.store import Session, StoreUnavailable
from infra.postgres.store import PostgresStore

SIZES = (1, 3, 40, 150, 600)
ROLLBACK = 0.1
SLOW_COMMIT = 0.03


class ChangedMyMindError(Exception):
    """Rolls the session back."""


class Writer:
    """Appends batches to its own streams, whose versions it learns from what the store tells."""

    def __init__(self, store: PostgresStore, number: int, seed: int, log: TextIO) -> None:
        self.store = store
        self.number = number
        self.random = random.Random(seed)
        self.log = log
        self.versions: dict[str, int] = {}
        self.attempt = 0

    async def write(self, facts: int) -> None:
        acknowledged = 0
        while acknowledged < facts:
            self.attempt += 1
            size = min(self.random.choice(SIZES), facts - acknowledged)
            try:
                await self.batch(size)
            except ChangedMyMindError:
                fate = "R"
            except StoreUnavailable:
                fate = "U"
                await asyncio.sleep(0.02)
            else:
                fate = "A"
                acknowledged += size
            self.log.write(f"{fate} {self.attempt} {size}\n")

    async def batch(self, size: int) -> None:
        async with self.store.session() as session:
            self.fold(session)
            mine = [f"{self.number}/{self.random.randrange(20)}" for _ in range(size)]
            versions = dict(self.versions)
            events = []
            for index, stream in enumerate(mine):
                versions[stream] = versions.get(stream, 0) + 1
                token = f"{self.number}:{self.attempt}:{index}".encode()
                events.append(StoredEvent(stream, versions[stream], "t", token))
            await session.append(events)
            if self.random.random() < SLOW_COMMIT:
                await asyncio.sleep(self.random.uniform(0.005, 0.05))
            if self.random.random() < ROLLBACK:
                raise ChangedMyMindError
        self.versions = versions

    def fold(self, session: Session) -> None:
        prefix = f"{self.number}/"
        for fact in session.news:  # our own facts are news only when their commit's fate was unknown
            if str(fact.originator_id).startswith(prefix):
                self.versions[str(fact.originator_id)] = fact.originator_version


async def main(dsn: str, number: int, facts: int, seed: int, log: Path) -> None:
    store = await PostgresStore.open(dsn, "metering")
    with log.open("w", encoding="utf-8") as lines:
        await Writer(store, number, seed, lines).write(facts)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))

"""A store in memory: the same promises as PostgreSQL but durability, for tests of rules and for trying things out."""

from __future__ import annotations

import asyncio
import hashlib
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from eventsourcing.persistence import Notification, StoredEvent

from events.store import (
    PAGE,
    Checkpoint,
    CheckpointMoved,
    Head,
    Move,
    Outcome,
    Seal,
    Snapshot,
    StoreRewound,
    VersionConflict,
)
from infra.store_rules import chained, next_versions


def system_clock() -> int:
    """Return the time in microseconds UTC."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class MemoryLog:
    """What a database would hold for one service; several stores over one log see each other's facts."""

    records: list[Notification] = field(default_factory=list)
    head: Head = field(default_factory=Head)
    streams: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    outcomes: dict[bytes, Outcome] = field(default_factory=dict)
    checkpoints: dict[tuple[str, str], Checkpoint] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    writer: asyncio.Lock = field(default_factory=asyncio.Lock)
    appended: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self, moves: Iterable[Move]) -> list[Move]:
        """Return the joined moves; CheckpointMoved unless every checkpoint stands where its move begins."""
        joined = chained(moves)
        for move in joined:
            now = self.checkpoints.get((move.after.follower, move.after.channel))
            if (now.position if now else 0) != move.before:
                raise CheckpointMoved(f"{move.after.follower} on {move.after.channel} stands at {now}")
        return joined

    def apply(self, moves: Iterable[Move]) -> None:
        """Let the checkpoints stand where the checked moves end."""
        for move in moves:
            self.checkpoints[move.after.follower, move.after.channel] = move.after


class MemorySession:
    """One writer's turn; everything it appends is kept aside until the turn ends well."""

    def __init__(self, log: MemoryLog, news: Sequence[Notification], now_us: int) -> None:
        """Begin at the log's head, with the time that every fact of this session gets."""
        self._log = log
        self._news = news
        self._head = log.head
        self._time_us = max(now_us, log.head.time_us)
        self._records: list[Notification] = []
        self._versions: dict[str, int] = {}
        self._outcomes: dict[bytes, Outcome] = {}
        self._moves: list[Move] = []
        self._appended = False
        self._error: Exception | None = None

    @property
    def head(self) -> Head:
        """The last record when the turn began."""
        return self._head

    @property
    def time_us(self) -> int:
        """The recorded time of this session's facts, in microseconds UTC."""
        return self._time_us

    @property
    def news(self) -> Sequence[Notification]:
        """What others appended since the store last saw the log."""
        return self._news

    async def outcomes(self, keys: Sequence[bytes]) -> Mapping[bytes, Outcome]:
        """Return those outcomes of `keys` that exist."""
        return {key: self._log.outcomes[key] for key in keys if key in self._log.outcomes}

    async def append(
        self,
        events: Sequence[StoredEvent],
        *,
        seal: Seal | None = None,
        outcomes: Iterable[Outcome] = (),
        moves: Iterable[Move] = (),
    ) -> Sequence[bytes]:
        """Set the events aside for the commit; raises VersionConflict and CheckpointMoved as the port says."""
        assert not self._appended, "a session appends at most once"
        self._appended = True
        try:
            return self._prepare(events, seal, outcomes, moves)
        except Exception as error:
            self._error = error
            raise

    def _prepare(
        self, events: Sequence[StoredEvent], seal: Seal | None, outcomes: Iterable[Outcome], moves: Iterable[Move]
    ) -> list[bytes]:
        self._versions = next_versions(events, self._log.versions)
        for outcome in outcomes:
            if outcome.key in self._log.outcomes or outcome.key in self._outcomes:
                raise VersionConflict(f"outcome {outcome.key.hex()} is already recorded")
            self._outcomes[outcome.key] = outcome
        self._moves = self._log.check(moves)
        for position, event in enumerate(events, self._head.position + 1):
            state = seal(event, position, self._time_us) if seal else event.state
            stream, version = event.originator_id, event.originator_version
            self._records.append(Notification(stream, version, event.topic, state, position))
        return [record.state for record in self._records]

    def commit(self) -> Head:
        """Make what was appended visible to everyone, and return the new head."""
        if self._error is not None:
            raise self._error
        log = self._log
        log.check(self._moves)  # `move` needs no turn, so it may have run since the append
        log.outcomes.update(self._outcomes)
        log.apply(self._moves)
        if self._records:
            log.records.extend(self._records)
            log.versions.update(self._versions)
            for record in self._records:
                log.streams.setdefault(str(record.originator_id), []).append(record.id - 1)
            last = self._records[-1]
            log.head = Head(last.id, self._time_us, hashlib.sha256(last.state).digest())
            log.appended.set()
            log.appended = asyncio.Event()
        return log.head


class MemoryStore:
    """The facts of one service, in memory."""

    def __init__(self, service: str, clock: Callable[[], int] = system_clock, log: MemoryLog | None = None) -> None:
        """Open a store on `log` (a new one by default); `clock` tells microseconds UTC."""
        self.service = service
        self._clock = clock
        self._log = log if log is not None else MemoryLog()
        self._seen = Head()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[MemorySession]:
        """Take the writer's turn; leaving without an error commits. News is told once, whatever becomes of the turn."""
        async with self._log.writer:
            self._refuse_a_rewound_log()
            session = MemorySession(self._log, self._log.records[self._seen.position :], self._clock())
            self._seen = self._log.head
            yield session
            self._seen = session.commit()

    def _refuse_a_rewound_log(self) -> None:
        seen, records = self._seen, self._log.records
        if seen.position > len(records):
            checkpoint = Checkpoint(f"writer of {self.service}", self.service, seen.position, seen.record_hash)
            raise StoreRewound(checkpoint, b"")

    def seen(self, position: int) -> None:
        """Let `news` start after `position`."""
        if position > self._seen.position:
            self._seen = Head(position)

    async def head(self) -> Head:
        """Return the last committed record."""
        return self._log.head

    async def read(self, after: int, limit: int = PAGE) -> Sequence[Notification]:
        """Return committed records after `after`, at most `limit`."""
        return self._log.records[max(after, 0) : max(after, 0) + limit]

    async def read_stream(self, stream: str, after: int = 0, limit: int = PAGE) -> Sequence[StoredEvent]:
        """Return the stream's records with version > `after`, at most `limit`."""
        places = self._log.streams.get(stream, [])
        records = self._log.records
        first = bisect_right(places, after, key=lambda place: records[place].originator_version)
        return [
            StoredEvent(stream, records[place].originator_version, records[place].topic, records[place].state)
            for place in places[first : first + limit]
        ]

    async def wait(self, after: int, timeout_seconds: float) -> bool:
        """Return True as soon as a record after `after` is committed, False when the time is over."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._log.head.position <= after:
                    await self._log.appended.wait()
        except TimeoutError:
            return self._log.head.position > after
        return True

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints by channel."""
        return {channel: kept for (name, channel), kept in self._log.checkpoints.items() if name == follower}

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints by compare-and-swap; all of them or none."""
        self._log.apply(self._log.check(moves))

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the snapshot in place of an older one of its name."""
        self._log.snapshots[snapshot.name] = snapshot

    async def load_snapshot(self, name: str, version: int) -> Snapshot | None:
        """Return the snapshot of that name and version, or None."""
        kept = self._log.snapshots.get(name)
        return kept if kept is not None and kept.version == version else None

    async def close(self) -> None:
        """Nothing to give back; here so that both adapters are closed alike."""

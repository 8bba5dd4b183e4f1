"""One writer's turn on PostgreSQL: lock, decide, COPY, commit.

Round trips of a session: BEGIN with the lock; head, clock and news; [outcomes; versions of streams not remembered;]
COPY of the facts [and of the outcomes; the moves]; NOTIFY with COMMIT. Only the last one waits for the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import asyncpg  # type: ignore[import-untyped]
from eventsourcing.persistence import Notification, StoredEvent

from events.store import (
    PAGE,
    CheckpointMoved,
    Head,
    Move,
    Outcome,
    Seal,
    StoreUnavailable,
)
from infra.postgres.pool import translated
from infra.postgres.rows import notifications
from infra.postgres.statements import EVENT_COLUMNS, OUTCOME_COLUMNS, Statements, tracking_name
from infra.postgres.versions import StreamVersions
from infra.store_rules import chained, next_versions


@dataclass(frozen=True, slots=True)
class Turn:
    """What a session found when it got the lock: the head, the record hash at `seen`, the news and the time."""

    head: Head
    found: bytes
    news: Sequence[Notification]
    time_us: int


async def take_turn(
    connection: asyncpg.Connection, statements: Statements, seen: int, clock: Callable[[], int] | None
) -> Turn:
    """Begin a transaction, wait for the writer lock and look at what stands after position `seen`.

    `found` is empty when no record stands at `seen` (and `seen` is above 0).
    """
    with translated():
        await connection.execute(statements.lock)
        rows = await connection.fetch(statements.turn, seen, PAGE + 1)
        database_us, last_us = rows[0][0], rows[-1][1] or 0
        rows = [row[2:] for row in rows if row[2] is not None]
        found = b""
        if seen and rows and rows[0][4] == seen:
            found = rows.pop(0)[3]
        news = notifications(rows)
        full = len(news) >= PAGE
        while full:
            page = await connection.fetch(statements.news, news[-1].id, PAGE)
            news += notifications([row[:5] for row in page])
            full = len(page) == PAGE
            last_us = page[-1][5] if page else last_us
    head = Head(seen, last_us, found)
    if news:
        head = Head(news[-1].id, last_us, hashlib.sha256(news[-1].state).digest())
    return Turn(head, found, news, max(clock() if clock else database_us, last_us))


class PostgresSession:
    """The store with its writer lock held."""

    def __init__(
        self, connection: asyncpg.Connection, statements: Statements, turn: Turn, versions: StreamVersions
    ) -> None:
        """Work on a connection whose transaction holds the lock."""
        self._connection = connection
        self._statements = statements
        self._turn = turn
        self._versions = versions
        self._appended = False
        self._error: BaseException | None = None
        self._after: Mapping[str, int] = {}
        self._new_head = turn.head

    @property
    def head(self) -> Head:
        """The last record when the lock was taken."""
        return self._turn.head

    @property
    def time_us(self) -> int:
        """The recorded time of this session's facts, in microseconds UTC."""
        return self._turn.time_us

    @property
    def news(self) -> Sequence[Notification]:
        """What others appended since the store last saw the log."""
        return self._turn.news

    async def outcomes(self, keys: Sequence[bytes]) -> Mapping[bytes, Outcome]:
        """Return those outcomes of `keys` that exist."""
        with translated():
            rows = await self._connection.fetch(self._statements.outcomes, list(keys))
        return {row[0]: Outcome(*row) for row in rows}

    async def append(
        self,
        events: Sequence[StoredEvent],
        *,
        seal: Seal | None = None,
        outcomes: Iterable[Outcome] = (),
        moves: Iterable[Move] = (),
    ) -> Sequence[bytes]:
        """Write the events, outcomes and moves; see the port."""
        assert not self._appended, "a session appends at most once"
        self._appended = True
        try:
            return await self._append(events, seal, list(outcomes), chained(moves))
        except BaseException as error:
            self._error = error  # a caller that swallows it must not commit half of the session
            raise

    async def _append(
        self, events: Sequence[StoredEvent], seal: Seal | None, outcomes: list[Outcome], moves: list[Move]
    ) -> list[bytes]:
        after = await self._check_versions(events)
        sealed: list[bytes] = []
        records = []
        time_us = self._turn.time_us
        for position, event in enumerate(events, self.head.position + 1):
            state = seal(event, position, time_us) if seal else event.state
            sealed.append(state)
            records.append((event.originator_id, event.originator_version, event.topic, state, position, time_us))
        with translated():
            if records:
                await self._copy("events", EVENT_COLUMNS, records)
            if outcomes:
                rows = [(each.key, each.inputs, each.first, each.last, each.answer) for each in outcomes]
                await self._copy("outcomes", OUTCOME_COLUMNS, rows)
            if moves:
                await swap(self._connection, self._statements, moves)
        if records:
            self._new_head = Head(records[-1][4], time_us, hashlib.sha256(sealed[-1]).digest())
            self._after = after
        return sealed

    async def _copy(self, table: str, columns: Sequence[str], records: Sequence[tuple[object, ...]]) -> None:
        schema = self._statements.service
        await self._connection.copy_records_to_table(table, schema_name=schema, columns=columns, records=records)

    async def _check_versions(self, events: Sequence[StoredEvent]) -> dict[str, int]:
        streams = dict.fromkeys(str(event.originator_id) for event in events)
        last = self._versions.among(streams)
        missing = [stream for stream in streams if stream not in last]
        if missing:
            with translated():
                rows = await self._connection.fetch(self._statements.versions, missing)
            last.update((row[0], row[1]) for row in rows)
        return next_versions(events, last)

    async def commit(self) -> Head:
        """Commit, wake the followers and return the new head.

        A caller cancelled meanwhile learns of it after the commit has ended, so the store knows what happened.
        Raises StoreUnavailable when the connection was lost: then only the database knows whether it is stored.
        """
        if self._error is not None:
            raise self._error
        wrote = self._new_head.position > self.head.position
        statement = self._statements.commit(self._new_head.position if wrote else 0)
        commit = asyncio.ensure_future(self._execute(statement))
        cancelled: asyncio.CancelledError | None = None
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError as error:
            cancelled = error
            await asyncio.wait({commit})
        except Exception:  # noqa: BLE001, S110 - raised again by result()
            pass
        if commit.result() != "COMMIT":
            raise StoreUnavailable("the transaction had failed and was rolled back")
        if wrote:
            self._versions.learn(self._after, self._new_head.position)
        if cancelled is not None:
            raise cancelled
        return self._new_head

    async def _execute(self, statement: str) -> str:
        with translated():
            return str(await self._connection.execute(statement))


async def swap(connection: asyncpg.Connection, statements: Statements, moves: Sequence[Move]) -> None:
    """Move checkpoints by compare-and-swap in the caller's transaction; CheckpointMoved when one was lost."""
    names = [tracking_name(move.after.follower, move.after.channel) for move in moves]
    before = [move.before for move in moves]
    positions = [move.after.position for move in moves]
    hashes = [move.after.record_hash for move in moves]
    try:
        swapped = {row[0] for row in await connection.fetch(statements.swap, names, before, positions, hashes)}
    except asyncpg.UniqueViolationError as error:
        raise CheckpointMoved(str(error)) from error
    lost = [f"{name} no longer at {begin}" for name, begin in zip(names, before, strict=True) if name not in swapped]
    if lost:
        raise CheckpointMoved("; ".join(lost))

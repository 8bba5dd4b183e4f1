"""The one command path: everything that waits is decided in sequence under the service's lock and committed once.

What a caller may believe: `submit` returns after the commit, so an `Accepted` is durable. A `Refusal` recorded
nothing. `Unavailable` means that nothing is known; asking again with the same command id is always safe, because the
outcome of every accepted command is kept for ever beside its facts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from eventsourcing.persistence import Notification

from events.catalog import Catalog, UpgradeNeeded
from events.store import (
    Checkpoint,
    CheckpointMoved,
    Move,
    Session,
    Snapshot,
    Store,
    StoreFull,
    StoreRewound,
    StoreUnavailable,
    read_on,
    verify_checkpoint,
)
from events.telemetry import Telemetry, distinct
from services.kernel.decider import Service
from services.kernel.directory import Directory
from services.kernel.errors import CommonsError, DiskFull, Unavailable
from services.kernel.group import Group, Request, sealer
from services.kernel.snapshot import freeze, thaw
from services.kernel.unit import Accepted, Answers, Unit, fail, tell, trace_notes

S = TypeVar("S")

GROUP_FACTS: Final = 5_000
"""Facts after which a group commits; what still waits goes into the next one."""

SNAPSHOT_FACTS: Final = 50_000
"""Facts between two snapshots of the folded state."""

_LOG: Final = logging.getLogger(__name__)


class Appender(Generic[S]):
    """The only writer of one service in this process."""

    def __init__(
        self,
        service: Service[S],
        store: Store,
        catalog: Catalog,
        directory: Callable[[], Awaitable[Directory]],
        input_key: bytes,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Take plain parts. `directory()` is awaited for the current Directory before each group."""
        self.service = service
        self.store = store
        self._catalog = catalog
        self._directory = directory
        self._input_key = input_key
        self._telemetry = telemetry or Telemetry()
        self._tracing = self._telemetry.tracer.active
        self._state = service.initial()
        self._versions: dict[str, int] = {}
        self._position = 0
        self._record_hash = b""
        self._snapshot_at = 0
        self._waiting: deque[Unit] = deque()
        self._wake = asyncio.Event()
        self._folding = asyncio.Lock()

    @property
    def state(self) -> S:
        """The folded state as of `position`: committed facts only."""
        return self._state

    @property
    def position(self) -> int:
        """The last position folded."""
        return self._position

    @property
    def waiting(self) -> int:
        """How many submissions wait for the writer."""
        return len(self._waiting)

    @property
    def _place(self) -> Checkpoint:
        return Checkpoint(f"writer of {self.service.name}", self.service.name, self._position, self._record_hash)

    async def load(self) -> None:
        """Fold the service's history, from its last snapshot on. Raises StoreRewound, UpgradeNeeded."""
        snapshot = await self.store.load_snapshot("state", self.service.snapshot_version)
        if snapshot is not None:
            checkpoint = Checkpoint("state", self.service.name, snapshot.position, snapshot.record_hash)
            await verify_checkpoint(self.store, checkpoint)
            self._restore(snapshot)
        await self.refresh()

    def _restore(self, snapshot: Snapshot) -> None:
        kind: Any = tuple[dict[str, int], type(self._state)]  # type: ignore[misc]
        try:
            self._versions, self._state = thaw(snapshot.state, kind)
        except msgspec.MsgspecError as error:
            _LOG.warning("the snapshot of %s has another layout, all facts are folded: %s", self.service.name, error)
            return
        self._position, self._record_hash = snapshot.position, snapshot.record_hash
        self._snapshot_at = snapshot.position

    async def refresh(self) -> S:
        """Fold what is committed and not folded yet; return the state. Raises StoreRewound, UpgradeNeeded."""
        async with self._folding:
            while page := await read_on(self.store, self._place):
                self._fold(page)
                await asyncio.sleep(0)
            self.store.seen(self._position)
        return self._state

    async def snapshot(self) -> None:
        """Keep the folded state, so that the next start folds only what came after it."""
        if self._position > self._snapshot_at:
            raw = freeze((self._versions, self._state))
            version = self.service.snapshot_version
            await self.store.save_snapshot(Snapshot("state", version, self._position, self._record_hash, raw))
            self._snapshot_at = self._position

    async def submit(self, *requests: Request, moves: Sequence[Move] = ()) -> Sequence[Accepted]:
        """Decide the requests together, all or none, and return their answers once they are durable.

        Raises the first Refusal, CheckpointMoved, Unavailable (nothing is known to be stored), DiskFull.
        """
        unit = Unit(requests, moves, asyncio.get_running_loop().create_future())
        if self._tracing:
            return await self._submit_traced(unit)
        self._waiting.append(unit)
        self._wake.set()
        return await unit.done

    async def _submit_traced(self, unit: Unit) -> Sequence[Accepted]:
        with self._telemetry.tracer.span("append", service=self.service.name) as unit.trace:
            self._waiting.append(unit)
            self._wake.set()
            return await unit.done

    async def run(self) -> None:
        """Serve submissions until cancelled. Raises StoreRewound, UpgradeNeeded: then nothing may go on."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                units = [unit for unit in self._waiting if not unit.done.done()]
                self._waiting.clear()
                await self._serve(units)
                if self._position - self._snapshot_at >= SNAPSHOT_FACTS:
                    await self._snapshot_quietly()

    async def _snapshot_quietly(self) -> None:
        try:
            await self.snapshot()
        except (StoreUnavailable, StoreFull):
            _LOG.warning("snapshot of %s was not kept; the next start folds more", self.service.name)

    async def _serve(self, units: Sequence[Unit]) -> None:
        """Serve a group; which of its units is in conflict is found by serving them one by one."""
        try:
            async with self._folding:
                rest = await self._measured(units)
            self._waiting.extendleft(reversed(rest))
        except asyncio.CancelledError:
            fail(units, Unavailable("the service is stopping", retry_after_seconds=2))
            raise
        except StoreUnavailable as error:
            _LOG.info("%s cannot reach its store: %s", self.service.name, error)  # callers are not told where it is
            fail(units, Unavailable("the database is away", retry_after_seconds=2))
        except StoreFull as error:
            _LOG.warning("%s cannot write: %s", self.service.name, error)
            fail(units, DiskFull("the disk of the database is full"))
        except (StoreRewound, UpgradeNeeded):
            fail(units, Unavailable("the service has stopped and needs its operator", retry_after_seconds=30))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, callers must not wait for ever
            if len(units) > 1:
                try:
                    for unit in units:
                        await self._serve([unit])
                finally:
                    fail(units, Unavailable("the service is stopping", retry_after_seconds=2))
                return
            if not isinstance(error, CheckpointMoved):
                _LOG.exception("a command of %s failed", self.service.name)
            fail(units, error)

    async def _measured(self, units: Sequence[Unit]) -> Sequence[Unit]:
        name, traces = self.service.name, distinct(unit.trace for unit in units) if self._tracing else ()
        span = self._telemetry.tracer.span("commit", traces, service=name, commands=len(units))
        with self._telemetry.meter.time("commons_commit_seconds", name), span:
            return await self._commit(units)

    async def _commit(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Decide and commit units and answer their callers; return those that must wait for the next group."""
        directory = await self._directory()
        records: Sequence[bytes] = ()
        async with self.store.session() as session:
            await self._fold_up_to(session)
            known = await session.outcomes([request.key for unit in units for request in unit.requests])
            group = Group(
                self.service,
                self._state,
                session.head,
                session.time_us,
                directory,
                self._versions,
                known,
                self._input_key,
            )
            with self._telemetry.meter.time("commons_decide_seconds", self.service.name):
                answers = await self._decide(group, units)
            if self._tracing:  # before the commit: who sees a fact finds its trace
                await self._telemetry.notes.note(self.service.name, group.head.position, trace_notes(answers))
            if group.events or group.outcomes or group.moves:
                seal = sealer(group.time_us)
                outcomes = group.outcomes.values()
                records = await session.append(group.events, seal=seal, outcomes=outcomes, moves=group.moves)
        self._state = group.state
        self._versions.update(group.fresh)
        if records:
            self._position = group.head.position + len(records)
            self._record_hash = hashlib.sha256(records[-1]).digest()
        self.store.seen(self._position)
        tell(self._telemetry.meter, self.service.name, answers, len(records))
        await self._answer(answers, group, records)
        return units[len(answers) :]

    async def _decide(self, group: Group[S], units: Sequence[Unit]) -> Answers:
        """Decide units in sequence until the group is full."""
        answers: Answers = []
        for index, unit in enumerate(units):
            answers.append((unit, group.attempt(unit.requests, unit.moves)))
            if len(group.events) >= GROUP_FACTS:
                break
            if index % 64 == 63:  # noqa: PLR2004 - let the event loop breathe while much is decided
                await asyncio.sleep(0)
        return answers

    async def _fold_up_to(self, session: Session) -> None:
        """Fold all that stands before the session's own facts: nothing is decided on a state with a hole in it."""
        if session.news and session.news[0].id <= self._position + 1:
            self._fold(session.news)
        while self._position < session.head.position:  # news is told once: what could not be folded then is read again
            self._fold(await read_on(self.store, self._place))
        if session.head.record_hash != self._record_hash:
            raise StoreRewound(self._place, session.head.record_hash)

    def _fold(self, page: Sequence[Notification]) -> None:
        folded: Notification | None = None
        try:
            for notification in page:
                if notification.id <= self._position:
                    continue
                recorded = self._catalog.decode(notification.state)
                self._state = self.service.evolve(self._state, recorded)
                self._versions[recorded.stream] = recorded.version
                self._position = notification.id
                folded = notification
        finally:  # position and hash belong together, also where a fact cannot be folded
            if folded is not None:
                self._record_hash = hashlib.sha256(folded.state).digest()

    async def _answer(self, answers: Answers, group: Group[S], records: Sequence[bytes]) -> None:
        for unit, found in answers:
            if unit.done.done():
                continue
            if isinstance(found, CommonsError):
                unit.done.set_exception(found)
                continue
            accepted = []
            for outcome, hit in found:
                digest, time_us = await self._evidence(outcome.last, group, records)
                accepted.append(Accepted(outcome.first, outcome.last, outcome.answer, hit, time_us, digest))
            unit.done.set_result(accepted)

    async def _evidence(self, position: int, group: Group[S], records: Sequence[bytes]) -> tuple[bytes, int]:
        """Return the hash and recorded time of an outcome's last record; an earlier group's is read again."""
        if not position:
            return b"", group.time_us
        offset = position - group.head.position - 1
        if offset >= 0:
            return hashlib.sha256(records[offset]).digest(), group.time_us
        record = (await self.store.read(position - 1, 1))[0].state
        return hashlib.sha256(record).digest(), self._catalog.decode(record).time_us

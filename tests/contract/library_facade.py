"""Our stores behind the eventsourcing library's synchronous recorder interfaces, so its own tests can judge them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from threading import Thread
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from events.store import Checkpoint, CheckpointMoved, Move, Store, VersionConflict

T = TypeVar("T")

BEFORE_ANY_VERSION = -(2**62)


class LoopThread:
    """An event loop on a thread of its own; stores live there and synchronous callers hand it coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="store loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()  # the library's reader threads may outlive their test by a moment
            raise RuntimeError("the loop is closed")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)
        except (VersionConflict, CheckpointMoved) as error:
            raise IntegrityError(str(error)) from error

    def close(self) -> None:
        async def drain() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)

        self.run(drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AggregateFacade(AggregateRecorder):
    """Facts of streams; the library's aggregate recorder knows no positions, so none are returned."""

    def __init__(self, store: Store, loop: LoopThread) -> None:
        self.store = store
        self.loop = loop

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        self.loop.run(self._insert(stored_events, kwargs.get("tracking")))
        return None

    async def _insert(self, events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        moves = [await self._move(tracking)] if tracking else []
        async with self.store.session() as session:
            await session.append(events, moves=moves)
            return [session.head.position + 1 + index for index in range(len(events))]

    async def _move(self, tracking: Tracking) -> Move:
        follower, _, channel = tracking.application_name.partition("@")
        kept = (await self.store.checkpoints(follower)).get(channel)
        before = kept.position if kept else 0
        if tracking.notification_id <= before:
            raise CheckpointMoved(f"{tracking.application_name} stands at {before} already")
        return Move(before, Checkpoint(follower, channel, tracking.notification_id, b""))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        found = self.loop.run(self._stream(str(originator_id), BEFORE_ANY_VERSION if gt is None else gt))
        found = [event for event in found if lte is None or event.originator_version <= lte]
        return (found[::-1] if desc else found)[:limit]

    async def _stream(self, stream: str, after: int) -> list[StoredEvent]:
        found: list[StoredEvent] = []
        while page := await self.store.read_stream(stream, after):
            found += page
            after = page[-1].originator_version
        return found


class ApplicationFacade(AggregateFacade, ApplicationRecorder):
    """Facts with their positions."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        return self.loop.run(self._insert(stored_events, kwargs.get("tracking")))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        after = 0 if start is None else start - 1 if inclusive_of_start else start

        def wanted(found: Notification) -> bool:
            return (stop is None or found.id <= stop) and (not topics or found.topic in topics)

        return self.loop.run(self._select(max(after, 0), limit, wanted))

    async def _select(self, after: int, limit: int, wanted: Callable[[Notification], bool]) -> list[Notification]:
        found: list[Notification] = []
        while len(found) < limit and (page := await self.store.read(after, max(limit, 1))):
            found += filter(wanted, page)
            after = page[-1].id
        return found[:limit]

    def max_notification_id(self) -> int | None:
        return self.loop.run(self.store.head()).position or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        return FacadeSubscription(recorder=self, gt=gt, topics=topics)


class FacadeSubscription(ListenNotifySubscription[ApplicationFacade]):
    """The library's subscription, woken by `Store.wait`."""

    def __init__(self, recorder: ApplicationFacade, gt: int | None = None, topics: Sequence[str] = ()) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._listener = Thread(target=self._listen)
        self._listener.start()

    def __exit__(self, *args: object, **kwargs: Any) -> None:
        try:
            super().__exit__(*args, **kwargs)
        finally:
            self._listener.join()

    def _listen(self) -> None:
        run, store = self._recorder.loop.run, self._recorder.store
        position = run(store.head()).position
        while not self._has_been_stopped:
            if run(store.wait(position, 0.1)):
                position = run(store.head()).position
                self._has_been_notified.set()


class TrackingFacade(TrackingRecorder):
    """Checkpoints as the library's tracking: the application is `follower@channel`."""

    def __init__(self, store: Store, loop: LoopThread) -> None:
        self.store = store
        self.loop = loop

    def insert_tracking(self, tracking: Tracking) -> None:
        async def insert() -> None:
            await self.store.move([await AggregateFacade._move(self, tracking)])  # type: ignore[arg-type]

        self.loop.run(insert())

    def max_tracking_id(self, application_name: str) -> int | None:
        follower, _, channel = application_name.partition("@")
        kept = self.loop.run(self.store.checkpoints(follower)).get(channel)
        return kept.position if kept else None


class ProcessFacade(TrackingFacade, ApplicationFacade, ProcessRecorder):
    """Facts and the checkpoint they follow from, in one commit."""

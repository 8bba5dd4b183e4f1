"""The event store port: what a service may believe about its facts, and when.

A store holds the facts of **one service**. Positions are dense (1, 2, 3 ... with no hole), commit order is position
order, and recorded time never decreases along positions. Bytes are opaque here: the kernel makes them CloudEvents.

Durability, in words: when `Session.append` has returned *and* the session has closed without an error, the facts
survive the loss of every process and of power. Before that, nothing of the session can be seen by any reader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from eventsourcing.persistence import Notification, StoredEvent

PAGE = 5_000
"""Facts in one page of a reader: large enough to amortise the query, small enough to stay under a few MB."""

Seal = Callable[[StoredEvent, int, int], bytes]
"""`seal(event, position, time_us)` returns the final record bytes; called once per event, under the lock."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a store: position (0 when empty), recorded time in microseconds, SHA-256 of its bytes."""

    position: int = 0
    time_us: int = 0
    record_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The permanent answer to one accepted command.

    `key` is SHA-256 over length-prefixed (actor, command id); `inputs` the keyed hash of what was asked;
    `first`..`last` the positions of its facts (both 0 when it needed none); `answer` the JSON the caller got.
    """

    key: bytes
    inputs: bytes
    first: int
    last: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a follower has come on one channel: the position and the SHA-256 of the record there.

    The eventsourcing library calls the pair (follower@channel, position) a `Tracking`.
    """

    follower: str
    channel: str
    position: int
    record_hash: bytes


@dataclass(frozen=True, slots=True)
class Move:
    """A compare-and-swap of a checkpoint: refused with `CheckpointMoved` unless it still stands at `before`."""

    before: int
    after: Checkpoint


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folded state at a position; `version` names the layout, a snapshot of another version is ignored."""

    name: str
    version: int
    position: int
    record_hash: bytes
    state: bytes


class StoreError(Exception):
    """Root of what a store can raise."""


class StoreUnavailable(StoreError):
    """The database cannot be reached or shut the connection; nothing is known to be stored. Try again."""


class StoreFull(StoreError):
    """The disk of the store is full; nothing of the session was stored."""


class StoreRewound(StoreError):
    """A follower remembers a record this store does not hold: the store was restored from an older backup."""

    def __init__(self, checkpoint: Checkpoint, found: bytes) -> None:
        """Keep the checkpoint and the hash that stands at its position now (empty: no record there)."""
        super().__init__(
            f"{checkpoint.follower} has seen position {checkpoint.position} of {checkpoint.channel} with record hash "
            f"{checkpoint.record_hash.hex()}, the store has {found.hex() or 'no record there'}: it was rewound. "
            f"{_to_go_on(checkpoint.follower)}"
        )
        self.checkpoint = checkpoint
        self.found = found


def _to_go_on(follower: str) -> str:
    """Say what an operator does about a follower that has seen more than there is."""
    kind, _, name = follower.partition("/")
    if kind == "view":
        return f"Run 'commons rebuild {name.partition('.')[0]}' once the restored state is accepted."
    if kind == "policy":
        return (
            "What it follows and what it writes come from two moments: restore all services of one backup, "
            "'commons restore FILE --facts-only --force'."
        )
    return "Start again once the restored state is accepted, after 'commons rebuild' of the views that have seen more."


class VersionConflict(StoreError):
    """A stream's version was not its last one plus one."""


class CheckpointMoved(StoreError):
    """Another process moved this follower's checkpoint; the zombie rolls back."""


class Session(Protocol):
    """The store with its writer lock held. Leaving the context without an error commits; an error rolls back."""

    @property
    def head(self) -> Head:
        """The last record when the lock was taken."""
        ...

    @property
    def time_us(self) -> int:
        """Recorded time of everything appended in this session: max(now, head.time_us), in microseconds UTC."""
        ...

    @property
    def news(self) -> Sequence[Notification]:
        """What other processes appended since this store object last held the lock (or was told `seen`)."""
        ...

    async def outcomes(self, keys: Sequence[bytes]) -> Mapping[bytes, Outcome]:
        """Return those outcomes of `keys` that exist."""
        ...

    async def append(
        self,
        events: Sequence[StoredEvent],
        *,
        seal: Seal | None = None,
        outcomes: Iterable[Outcome] = (),
        moves: Iterable[Move] = (),
    ) -> Sequence[bytes]:
        """Write events at head+1, head+2 ...; return their final bytes. At most once per session.

        Raises VersionConflict (not last + 1; any first version is welcome on a new stream), CheckpointMoved,
        StoreFull, StoreUnavailable; then nothing of the session is stored.
        """
        ...


class Store(Protocol):
    """The facts of one service."""

    service: str

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Take the service's writer lock; see `Session`."""
        ...

    def seen(self, position: int) -> None:
        """Tell the store that its owner has folded everything up to `position`, so `news` starts after it."""
        ...

    async def head(self) -> Head:
        """Return the last committed record."""
        ...

    async def read(self, after: int, limit: int = PAGE) -> Sequence[Notification]:
        """Return committed records with position > `after`, in order, at most `limit`.

        A page may be shorter than `limit` before the end (pages are bounded in bytes too); an empty one is the end.
        """
        ...

    async def read_stream(self, stream: str, after: int = 0, limit: int = PAGE) -> Sequence[StoredEvent]:
        """Return the stream's records with version > `after`, in order, at most `limit`."""
        ...

    async def wait(self, after: int, timeout_seconds: float) -> bool:
        """Return True as soon as a record after `after` is committed; False when the time is over.

        Woken by a notification, with polling behind it, so a lost wake-up costs a delay and never a fact.
        """
        ...

    async def checkpoints(self, follower: str) -> Mapping[str, Checkpoint]:
        """Return the follower's checkpoints, channel to checkpoint."""
        ...

    async def move(self, moves: Sequence[Move]) -> None:
        """Move checkpoints that have no effect beside them, by compare-and-swap; CheckpointMoved when lost."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the snapshot in place of an older one of its name."""
        ...

    async def load_snapshot(self, name: str, version: int) -> Snapshot | None:
        """Return the snapshot of that name and version, or None."""
        ...


async def verify_checkpoint(store: Store, checkpoint: Checkpoint) -> None:
    """Raise StoreRewound unless the store still holds the record that `checkpoint` remembers."""
    if checkpoint.position == 0:
        return
    found = await store.read(checkpoint.position - 1, 1)
    digest = hashlib.sha256(found[0].state).digest() if found and found[0].id == checkpoint.position else b""
    if digest != checkpoint.record_hash:
        raise StoreRewound(checkpoint, digest)


async def read_on(store: Store, at: Checkpoint) -> Sequence[Notification]:
    """Return a page of what follows `at`, empty at the end; the record `at` remembers is looked at in the same reading.

    For who keeps a folded state in memory: raises StoreRewound when it was folded from records that are gone.
    """
    if at.position == 0:
        return await store.read(0)
    page = await store.read(at.position - 1)
    digest = hashlib.sha256(page[0].state).digest() if page and page[0].id == at.position else b""
    if digest != at.record_hash:
        raise StoreRewound(at, digest)
    return page[1:]

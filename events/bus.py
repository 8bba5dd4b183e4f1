"""The bus port: how followers get records, and what they may rely on.

Every record reaches every subscription at least once, in order within one stream; a channel is the unit of progress
(one per service on the tail, one per topic partition on Kafka, see `events.channels`). A follower saves the offset it
has reached in the same transaction as its effect, so a delivery that comes again changes nothing.

Offsets are positions of the service on every bus: a checkpoint names a record of the store, and says that whatever
the channel carries up to that position has taken effect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from eventsourcing.persistence import Notification

from events.store import Checkpoint, StoreError


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive records of one channel.

    `before` is where the follower's checkpoint stands (0: it has none), `last` the position that is reached with the
    page. It may lie beyond the last record, where the channel carries nothing in between; then `last_hash` is the
    SHA-256 of the service's record there. `quiet` are other channels that went on without a record, to be saved with
    this page. `traces` are the spans that records were made in, by position, where anybody traces.
    """

    channel: str
    before: int
    last: int
    records: Sequence[Notification]
    last_hash: bytes = b""
    quiet: Sequence[Page] = ()
    traces: Mapping[int, str] = field(default_factory=dict)

    def checkpoint(self, follower: str) -> Checkpoint:
        """Return the checkpoint to save with the page's effect."""
        digest = self.last_hash or hashlib.sha256(self.records[-1].state).digest()
        return Checkpoint(follower, self.channel, self.last, digest)


@dataclass(frozen=True, slots=True)
class Follower:
    """Who subscribes: the name its checkpoints stand under, the services it follows, and how to read its checkpoints.

    `checkpoints` is asked at the start, and again whenever the follower is given channels that another process had.
    `in_order`: the records of a service come in the order of its positions, on one channel; then only one process at
    a time gets them, where otherwise channels are shared out.
    """

    name: str
    services: Sequence[str]
    checkpoints: Callable[[], Awaitable[Mapping[str, Checkpoint]]]
    in_order: bool = False


class ChannelGap(StoreError):
    """Records are missing on a channel: what came follows a record that never did. Nothing may go on from here."""

    def __init__(self, follower: str, channel: str, previous: int, reached: int) -> None:
        """Keep what the record says came before it, and how far the follower has really come."""
        super().__init__(
            f"{follower} has reached position {reached} of {channel}, but what comes next follows position {previous}: "
            f"records are missing there. The facts themselves are in the store: repair or recreate the topic"
        )
        self.channel = channel
        self.previous = previous
        self.reached = reached


class OtherBus(StoreError):
    """A follower's checkpoints were made on another bus than the one it is to continue on."""


class Subscription(Protocol):
    """A follower's place on the channels of some services."""

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page of some channel, or None when nothing came in time.

        Asking again says that the page before has taken effect or never will. Raises StoreUnavailable when the
        records cannot be reached now, StoreRewound like `subscribe`, ChannelGap when records are missing.
        """
        ...

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each channel still holds for this subscription, at most."""
        ...

    async def close(self) -> None:
        """Give the channels to others."""
        ...


class Bus(Protocol):
    """Where followers subscribe."""

    async def subscribe(self, follower: Follower) -> Subscription:
        """Return a subscription that continues after the follower's checkpoints.

        Raises StoreRewound when a checkpoint names a record the store no longer holds, OtherBus when they are of
        another bus, StoreUnavailable.
        """
        ...

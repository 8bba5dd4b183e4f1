"""The bus port: how followers get records, and what they may rely on.

Every record reaches every subscription at least once, in order within one stream; a channel is the unit of progress
(one per service on the tail, one per topic partition on Kafka). A follower saves the offset it has reached in the
same transaction as its effect, so a delivery that comes again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from eventsourcing.persistence import Notification

from events.store import Checkpoint


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive records of one channel. `before` is the offset they follow, `last` the offset of the last one.

    On the tail an offset is a position.
    """

    channel: str
    before: int
    last: int
    records: Sequence[Notification]


class Subscription(Protocol):
    """A follower's place on the channels of some services."""

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page of some channel, or None when nothing came in time.

        Raises StoreUnavailable when the records cannot be reached now.
        """
        ...

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each channel still holds for this subscription."""
        ...


class Bus(Protocol):
    """Where followers subscribe."""

    async def subscribe(self, services: Sequence[str], start: Mapping[str, Checkpoint]) -> Subscription:
        """Return a subscription that continues after `start` (channel to checkpoint; absent: from the beginning).

        Raises StoreRewound when a checkpoint names a record the store no longer holds.
        """
        ...

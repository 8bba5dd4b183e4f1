"""Facts that a follower has set aside, and the port under which policies keep theirs.

A fact that cannot take effect is parked with its cause, and with it whatever follows in its stream: so the order
within the stream is kept, and all other streams go on. Views keep what they park beside their rows, policies beside
their checkpoints: in one transaction with them, whichever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from eventsourcing.persistence import Notification

from events.store import Move

ERROR_CHARACTERS: Final = 500
"""How much of an error's text is kept with a parked fact."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A fact that was set aside: it cannot take effect itself, or waits behind one of its stream that cannot.

    `first` is the first of its stream that is parked; while it is there, later facts of the stream are parked too.
    `parked_us` (microseconds UTC) is set by the store.
    """

    follower: str
    service: str
    position: int
    channel: str
    stream: str
    type: str
    error: str
    first: bool
    parked_us: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked fact of a policy with the bytes of its record."""

    fact: Parked
    record: bytes


class Aside(Protocol):
    """What the policies of one service have parked. Every method may raise StoreUnavailable and StoreFull."""

    async def blocked(self, follower: str) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        ...

    async def park(self, move: Move, waiting: Waiting) -> None:
        """Set a fact aside and move the checkpoint beyond it. Raises CheckpointMoved: then nothing has happened."""
        ...

    async def park_behind(self, move: Move, waiting: Waiting) -> bool:
        """Set a fact aside and move the checkpoint, if another of its stream is parked still; tell whether it was.

        False when the stream was freed meanwhile: then nothing has happened. Raises CheckpointMoved.
        """
        ...

    async def parked(self, follower: str, after: tuple[str, int], limit: int) -> Sequence[Waiting]:
        """Return parked facts beyond `after` (service, position), in that order, at most `limit`."""
        ...

    async def say(self, fact: Parked) -> None:
        """Say anew why a fact that is still parked blocks its stream."""
        ...

    async def release(self, fact: Parked) -> None:
        """Forget a parked fact; the first one left of its stream blocks the rest from now on."""
        ...

    async def alarms(self) -> Sequence[Parked]:
        """Return the first parked fact of every stream of every policy."""
        ...

    async def counts(self) -> Mapping[str, int]:
        """Return how many facts each policy has parked, for those that have any."""
        ...


def park(follower: str, channel: str, record: Notification, error: str, *, first: bool) -> Parked:
    """Return a record as a parked fact."""
    service, stream = stream_of(record)
    return Parked(follower, service, record.id, channel, stream, record.topic, error, first)


def stream_of(record: Notification) -> tuple[str, str]:
    """Return (service, stream) of a record: a type's name begins with the service that owns it."""
    return record.topic.partition(".")[0], str(record.originator_id)


def told(error: BaseException) -> str:
    """Return an error as the text kept with a parked fact; no U+0000, no end."""
    text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()

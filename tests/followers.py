"""Followers for tests that subscribe to a bus themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from events.bus import Follower
from events.store import Checkpoint


def follower(
    services: Sequence[str], start: Mapping[str, Checkpoint] | None = None, *, name: str = "f", in_order: bool = False
) -> Follower:
    """A follower whose checkpoints stand in `start`, which may be moved on while it follows."""
    standing: Mapping[str, Checkpoint] = {} if start is None else start

    async def checkpoints() -> Mapping[str, Checkpoint]:
        return standing

    return Follower(name, services, checkpoints, in_order)

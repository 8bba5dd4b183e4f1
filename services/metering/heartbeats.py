"""The port of heartbeats: no facts, but kept until their hour is recorded, over restarts and for all processes."""

from __future__ import annotations

from typing import Final, Protocol

from services.metering.errors import HeartbeatOutOfTime

MINUTE_MS: Final = 60_000
MAX_AGE_MS: Final = 2 * MINUTE_MS


class Heartbeats(Protocol):
    """Remembers the first heartbeat of every node and minute for at least three hours."""

    async def note(self, node: str, minute: int, spool_sha256: str) -> str:
        """Keep a heartbeat, durably before this returns; return the spool hash (hex) that stands for the minute.

        The first one of a minute stands, whatever comes after it. `minute` counts from 1970. Raises StoreUnavailable.
        """
        ...

    async def minutes(self, node: str, hour: int) -> int:
        """Return the map of an hour (since 1970): minute i counts 2^i where a heartbeat of the node is kept.

        Raises StoreUnavailable.
        """
        ...


def check_minute(minute: int, now_ms: int) -> None:
    """Raise HeartbeatOutOfTime unless the minute began within the last two minutes."""
    if not 0 <= now_ms - minute * MINUTE_MS < MAX_AGE_MS:
        now = now_ms // MINUTE_MS
        raise HeartbeatOutOfTime("a heartbeat comes within two minutes", minute=minute, now_minute=now)

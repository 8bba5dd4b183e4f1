"""Facts that views have set aside, in the table `views.parked`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.parked import Parked
from infra.postgres.view_tables import parked_table

_FIELDS: Final = "follower, service, position, channel, stream, type, error, first"
_ROWS: Final = f"SELECT {_FIELDS}, parked_us FROM {parked_table()}"  # noqa: S608
_BLOCKED: Final = f"SELECT service, stream, position FROM {parked_table()} WHERE follower = $1 AND first"  # noqa: S608
_NEXT: Final = f"{_ROWS} WHERE follower = $1 AND (service, position) > ($2, $3) ORDER BY service, position LIMIT $4"
_COUNT: Final = f"SELECT count(*) FROM {parked_table()} WHERE follower = $1"  # noqa: S608
_PARK: Final = f"""
INSERT INTO {parked_table()} ({_FIELDS})
SELECT * FROM
unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
ON CONFLICT (follower, service, position) DO UPDATE SET error = excluded.error, first = excluded.first
"""  # noqa: S608
_RELEASE: Final = f"""
DELETE FROM {parked_table()} AS parked USING unnest($2::text[], $3::bigint[]) AS gone(service, position)
WHERE parked.follower = $1 AND parked.service = gone.service AND parked.position = gone.position
"""  # noqa: S608
_BLOCK: Final = f"""
UPDATE {parked_table()} AS parked SET first = true FROM (
    SELECT left_over.service, min(left_over.position) AS position FROM {parked_table()} AS left_over
    JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[])) AS freed(service, stream)
    ON left_over.service = freed.service AND left_over.stream = freed.stream
    WHERE left_over.follower = $1 GROUP BY left_over.service, left_over.stream
) AS foremost
WHERE parked.follower = $1 AND parked.service = foremost.service AND parked.position = foremost.position
"""  # noqa: S608
_ALARMS: Final = f"{_ROWS} WHERE first AND follower LIKE 'view/%' ORDER BY follower, service, position"
_COUNTS: Final = f"SELECT follower, count(*) AS count FROM {parked_table()} WHERE follower LIKE 'view/%' GROUP BY 1"  # noqa: S608


class PostgresParked:
    """The part of a writer that sets facts aside."""

    def __init__(self, connection: asyncpg.Connection, follower: str) -> None:
        """Work in the caller's transaction, for one follower."""
        self._connection = connection
        self._follower = follower

    @property
    def follower(self) -> str:
        """The name its checkpoints and parked facts stand under."""
        return self._follower

    async def blocked(self) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        rows = await self._connection.fetch(_BLOCKED, self._follower)
        return {(row["service"], row["stream"]): row["position"] for row in rows}

    async def park(self, facts: Sequence[Parked]) -> None:
        """Set facts aside, or say anew why one is."""
        columns = [[getattr(fact, field) for fact in facts] for field in _FIELDS.split(", ")]
        await self._connection.execute(_PARK, *columns)

    async def parked(self, after: tuple[str, int], limit: int) -> Sequence[Parked]:
        """Return parked facts beyond `after` in order."""
        return [Parked(*row) for row in await self._connection.fetch(_NEXT, self._follower, *after, limit)]

    async def parked_count(self) -> int:
        """Return how many facts are parked."""
        return int(await self._connection.fetchval(_COUNT, self._follower))

    async def release(self, facts: Sequence[Parked]) -> None:
        """Forget parked facts; the first one left of each of their streams blocks the rest."""
        services = [fact.service for fact in facts]
        await self._connection.execute(_RELEASE, self._follower, services, [fact.position for fact in facts])
        await self._connection.execute(_BLOCK, self._follower, services, [fact.stream for fact in facts])


async def read_alarms(connection: asyncpg.Connection) -> list[Parked]:
    """Return of all live views the first parked fact of every stream."""
    return [Parked(*row) for row in await connection.fetch(_ALARMS)]


async def count_parked(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how many facts each live view has parked, for those that have any."""
    return {row["follower"]: row["count"] for row in await connection.fetch(_COUNTS)}

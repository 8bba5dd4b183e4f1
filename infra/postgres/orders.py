"""What operators have ordered followers to do, in the table `views.orders`; every process looks at it once a second."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.store import Checkpoint, StoreError
from infra.postgres.pool import translated
from infra.postgres.schema import making, schema_name
from infra.postgres.statements import tracking_name
from infra.postgres.view_tables import LIVE, lay_ground

FRESH_SECONDS: Final = 1.0
"""How old an order may be that a follower goes by."""

_TABLE: Final = f"{LIVE}.orders"
_DDL: Final = f"""
CREATE TABLE IF NOT EXISTS {_TABLE} (
    follower text COLLATE "C" PRIMARY KEY,
    paused boolean NOT NULL DEFAULT false,
    rewound bigint NOT NULL DEFAULT 0
)
"""
_READ: Final = f"SELECT follower, paused, rewound FROM {_TABLE}"  # noqa: S608 - a name of ours, here and below
_PAUSE: Final = f"""
INSERT INTO {_TABLE} (follower, paused) SELECT unnest($1::text[]), $2
ON CONFLICT (follower) DO UPDATE SET paused = excluded.paused
"""
_REWOUND: Final = f"""
INSERT INTO {_TABLE} (follower, rewound) VALUES ($1, 1)
ON CONFLICT (follower) DO UPDATE SET rewound = {_TABLE}.rewound + 1
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Order:
    """What one follower is to do: rest, or not; and how often it has been sent back."""

    paused: bool = False
    rewound: int = 0


class NotBehind(StoreError):
    """A follower was to be sent to a position that it has not reached: it would miss what lies between."""


def plain_name(follower: str) -> str:
    """Return the name orders stand under: that of a view without its version, so an upgrade ends no pause."""
    return re.sub(r"^(view/.+)\.v\d+$", r"\1", follower)


class PostgresOrders:
    """Reads and gives orders. Raises StoreUnavailable."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Use a pool of the caller's."""
        self._pool = pool
        self._known: Mapping[str, Order] = {}
        self._looked = -FRESH_SECONDS
        self._lock = asyncio.Lock()

    async def of(self, follower: str) -> Order:
        """Return the order of a follower, at most FRESH_SECONDS old."""
        async with self._lock:
            if time.monotonic() >= self._looked + FRESH_SECONDS:
                self._known = await self.all()
                self._looked = time.monotonic()
        return self._known.get(plain_name(follower), Order())

    async def all(self) -> Mapping[str, Order]:
        """Return every follower's order as it stands now, for those that have been given any."""
        with translated(), suppress(asyncpg.UndefinedTableError):
            return {row[0]: Order(row[1], row[2]) for row in await self._pool.fetch(_READ)}
        return {}

    async def pause(self, followers: Sequence[str], *, paused: bool) -> None:
        """Let followers rest, or go on."""
        async with self._transaction() as connection:
            await connection.execute(_PAUSE, [plain_name(each) for each in followers], paused)

    async def rewind(self, service: str, to: Checkpoint) -> None:
        """Send a policy of `service` back to a checkpoint, 0: the beginning. Raises NotBehind."""
        name, table = tracking_name(to.follower, to.channel), f"{schema_name(service)}.tracking"
        async with self._transaction() as connection:
            query = f"SELECT notification_id FROM {table} WHERE application_name = $1 FOR UPDATE"  # noqa: S608
            stands = await connection.fetchval(query, name) or 0
            if to.position > stands:
                raise NotBehind(f"{to.follower} stands at position {stands}: it can go back, it cannot pass facts over")
            text = f"UPDATE {table} SET notification_id = $2, record_hash = $3 WHERE application_name = $1"  # noqa: S608
            await connection.execute(text, name, to.position, to.record_hash)
            await connection.execute(_REWOUND, plain_name(to.follower))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.Connection]:
        with translated():
            async with self._pool.acquire() as connection:
                await lay_ground(connection)
                if not await connection.fetchval("SELECT to_regclass($1)", _TABLE):
                    async with making(connection, LIVE):
                        await connection.execute(_DDL)
                async with connection.transaction():
                    yield connection

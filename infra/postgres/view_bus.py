"""Which bus the views of a database follow, and their way from one to another.

A view's checkpoints name channels of one bus. Following the channels of another beside them would fold facts twice,
so the bus is noted when views are first followed, every process looks at the note when it starts, and a move rewrites
the checkpoints of all views in one transaction: who still follows the old channels finds its checkpoints gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from events.channels import service_of, share_of
from events.store import StoreError
from infra.postgres.pool import translated
from infra.postgres.schema import making
from infra.postgres.view_tables import LIVE, checkpoint_table, lay_ground

TAIL: Final = "tail:"

_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS {LIVE}.bus (single boolean PRIMARY KEY DEFAULT true CHECK (single), name text NOT NULL)
"""
_READ: Final = f"SELECT follower, channel, position, record_hash FROM {checkpoint_table()} ORDER BY 1, 2 FOR UPDATE"  # noqa: S608 - a name of ours

Rows = Sequence[tuple[str, str, int, bytes]]


class BusChanged(StoreError):
    """The settings name another bus than the views of this database follow."""


class NotDrained(StoreError):
    """A view has not come equally far on all partitions of a service, so no one position says where it stands."""


async def keep_to_bus(dsn: str, name: str) -> None:
    """Note that views follow the bus `name`; raises BusChanged when they have followed another one."""
    with translated():
        connection = await asyncpg.connect(dsn)
        try:
            await _lay_ground(connection)
            async with connection.transaction():
                noted = await _noted(connection, name)
        finally:
            connection.terminate()
    if noted != name:
        raise BusChanged(
            f"the views of this database follow {noted}, the settings choose {name}: stop every process, let the "
            f"views come to the end first where they follow partitions, and run 'commons views move'"
        )


async def move_views(dsn: str, name: str, channels: Callable[[str], Sequence[str]]) -> int:
    """Let all views go on along `channels(service)` of the bus `name`; return how many views were moved.

    Raises NotDrained; then nothing has changed.
    """
    with translated():
        connection = await asyncpg.connect(dsn)
        try:
            await _lay_ground(connection)
            async with connection.transaction():
                await _noted(connection, name)
                rows = [tuple(row) for row in await connection.fetch(_READ)]
                moved = moved_rows(rows, channels)
                await connection.execute(f"DELETE FROM {checkpoint_table()}")  # noqa: S608 - a name of ours
                insert = f"INSERT INTO {checkpoint_table()} VALUES ($1, $2, $3, $4)"  # noqa: S608 - as above
                await connection.executemany(insert, moved)
                await connection.execute(f"UPDATE {LIVE}.bus SET name = $1", name)  # noqa: S608 - as above
        finally:
            connection.terminate()
    return len({follower for follower, *_ in moved})


async def _lay_ground(connection: Any) -> None:
    await lay_ground(connection)
    if not await connection.fetchval("SELECT to_regclass($1)", f"{LIVE}.bus"):
        async with making(connection, LIVE):
            await connection.execute(_TABLE)


async def _noted(connection: Any, name: str) -> str:
    """Return the bus noted; a database that was followed before there was a note was followed along its stores."""
    followed = await connection.fetchval(f"SELECT EXISTS (SELECT FROM {checkpoint_table()})")  # noqa: S608 - as above
    begun = TAIL if followed else name
    await connection.execute(f"INSERT INTO {LIVE}.bus (name) VALUES ($1) ON CONFLICT DO NOTHING", begun)  # noqa: S608 - as above
    noted: str = await connection.fetchval(f"SELECT name FROM {LIVE}.bus")  # noqa: S608 - as above
    return noted


def moved_rows(rows: Iterable[tuple[str, str, int, bytes]], channels: Callable[[str], Sequence[str]]) -> Rows:
    """Return checkpoints (follower, channel, position, hash) as they stand on other channels. Raises NotDrained."""
    found: dict[tuple[str, str], dict[str, tuple[int, bytes]]] = {}
    for follower, channel, position, record_hash in rows:
        found.setdefault((follower, service_of(channel)), {})[channel] = (position, record_hash)
    moved: list[tuple[str, str, int, bytes]] = []
    for (follower, service), places in found.items():
        position, record_hash = _one_place(follower, service, places)
        moved += [(follower, channel, position, record_hash) for channel in channels(service)]
    return moved


def _one_place(follower: str, service: str, places: Mapping[str, tuple[int, bytes]]) -> tuple[int, bytes]:
    shares = {channel: share for channel in places if (share := share_of(channel)) is not None}
    if not shares:
        return places[service]
    count = next(iter(shares.values())).count
    standing = {places[channel] for channel in shares} | ({(0, b"")} if len(shares) < count else set())
    if len(standing) > 1:
        told = ", ".join(str(position) for position, _ in sorted(standing))
        raise NotDrained(
            f"{follower} stands at positions {told} of {service}: let it come to the end of all partitions"
        )
    return standing.pop()

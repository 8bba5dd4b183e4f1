"""Connections to PostgreSQL and the translation of its errors into the port's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg  # type: ignore[import-untyped]

from events.store import StoreFull, StoreUnavailable, VersionConflict

CONNECT_TIMEOUT_SECONDS: Final = 10
COMMAND_TIMEOUT_SECONDS: Final = 60
"""Longer than the server's own limits below, so that the server normally speaks first."""

_SETTINGS: Final = {
    "application_name": "commons",
    # Facts are durable before they are answered, whatever the server's default says.
    "synchronous_commit": "on",
    "jit": "off",
    # A frozen process must not hold the writer lock for ever, and nobody waits for it for ever.
    "idle_in_transaction_session_timeout": "30s",
    "lock_timeout": "30s",
}

_BY_KEY: Final = {
    # Every statement of the store goes by key. Statistics of a table that has just grown from empty would make the
    # planner choose a scan, and a prepared statement would keep it.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}

_AWAY: Final = (
    OSError,  # refused, reset, timed out, no such socket
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, starting up, cancelled by an administrator
    asyncpg.InsufficientResourcesError,  # too many connections, out of memory; a full disk is told apart first
    asyncpg.PostgresSystemError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # the server has become a standby
    asyncpg.DeadlockDetectedError,
    asyncpg.InternalClientError,
)

_LOST: Final = ("closed", "closing", "released back to the pool")
"""Signs of a lost connection among the driver's interface errors, which have no codes."""


class StoreConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """A connection that keeps no session state, so giving it back needs no round trip."""

    def get_reset_query(self) -> str:
        """Return no query; open transactions are rolled back all the same."""
        return ""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of the driver and the network into StoreUnavailable, StoreFull and VersionConflict."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise VersionConflict(f"{error}: {error.detail}") from error
    except asyncpg.DiskFullError as error:
        raise StoreFull(str(error)) from error
    except _AWAY as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError) or not any(sign in str(error) for sign in _LOST):
            raise  # misuse of the driver is a mistake of ours
        raise StoreUnavailable(str(error)) from error


async def open_pool(
    dsn: str,
    *,
    size: int = 8,
    read_only: bool = False,
    by_key: bool = True,
    connections: type[asyncpg.Connection] = StoreConnection,
) -> asyncpg.Pool:
    """Open a pool of at most `size` connections; a lost connection is replaced when next needed.

    `by_key` suits stores, whose every statement goes by key; views want the planner's own choice. `connections` is a
    kind of StoreConnection, one that measures its statements for instance.
    Raises StoreUnavailable when the database cannot be reached now.
    """
    settings = _SETTINGS | (_BY_KEY if by_key else {}) | ({"default_transaction_read_only": "on"} if read_only else {})
    with translated():
        return await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            server_settings=settings,
            connection_class=connections,
        )

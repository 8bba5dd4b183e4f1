"""Spans of SQL statements: a connection that measures each one it runs inside a span, and nothing outside of one.

The statement's text is kept, its values never: ours hold none, they pass them as arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import asyncpg  # type: ignore[import-untyped]

from events.telemetry import Tracer, current
from infra.postgres.pool import StoreConnection

T = TypeVar("T")

STATEMENT_CHARACTERS: Final = 500


def traced_connection(tracer: Tracer) -> type[asyncpg.Connection]:
    """Return the class of connections whose statements are spans of `tracer`."""

    async def measured(text: str, run: Awaitable[T]) -> T:
        if not current():
            return await run
        with tracer.span(_name(text), **{"db.system.name": "postgresql", "db.query.text": text[:STATEMENT_CHARACTERS]}):
            return await run

    class TracedConnection(StoreConnection):
        """Every way to run a statement that this repository uses; none of them goes through another."""

        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            return await measured(query, super().execute(query, *args, **options))

        async def executemany(self, command: str, args: Any, **options: Any) -> Any:
            return await measured(command, super().executemany(command, args, **options))

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            return await measured(query, super().fetch(query, *args, **options))

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            return await measured(query, super().fetchrow(query, *args, **options))

        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            return await measured(query, super().fetchval(query, *args, **options))

        async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
            text = f"COPY {options.get('schema_name') or 'public'}.{table_name}"
            return await measured(text, super().copy_records_to_table(table_name, **options))

    return TracedConnection


def _name(query: str) -> str:
    """Return the name of a statement's span, of which there are few: its first word."""
    return f"sql {query.split(None, 1)[0].rstrip(';').upper()}"

"""A world to follow: stores with a history on a real database, views over them, their runners and queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from events.facts import catalog
from events.store import Store
from infra.postgres.pool import open_pool
from infra.postgres.store import open_stores
from infra.postgres.views import PostgresViews
from infra.tail import TailBus
from projections.catalog import routes, views
from projections.queries import ViewReader
from projections.routes import Answer, QueryContext
from projections.runner import ViewRunner
from projections.store import ViewStore
from projections.view import View
from tests.history import History

SERVICES = ("registry", "metering", "treasury")


@dataclass
class World:
    """Stores with a history, views over them, and the queries."""

    stores: Mapping[str, Store]
    views: ViewStore
    history: History

    def runner(self, view: View) -> ViewRunner:
        return ViewRunner(view, self.views, TailBus(self.stores), catalog())

    @asynccontextmanager
    async def following(self, *followed: View) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.runner(view).run()) for view in followed or views()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def heads(self) -> dict[str, int]:
        return {name: (await store.head()).position for name, store in self.stores.items()}

    async def ask(
        self, name: str, *, at_least: Mapping[str, int] | None = None, wait: float = 20, **given: Any
    ) -> Answer:
        async def record(service: str, position: int) -> bytes | None:
            found = await self.stores[service].read(position - 1, 1)
            return found[0].state if found else None

        unopened: Any = None  # profiles have tests of their own
        route = {route.name: route for route in routes(ViewReader(self.views, wait), record, unopened)}[name]
        wanted = await self.heads() if at_least is None else at_least
        return await route.handle(route.params(**given), QueryContext(None, wanted))

    async def digest(self, view: View) -> str:
        async with self.views.reading(view) as snapshot:
            return await snapshot.digest(view)

    async def caught_up(self, *followed: View) -> None:
        """Wait until the views reflect everything."""
        heads = await self.heads()
        async with asyncio.timeout(30):
            for view in followed or views():
                while await self.behind(view, heads):
                    await asyncio.sleep(0.02)

    async def behind(self, view: View, heads: Mapping[str, int]) -> bool:
        found = await self.views.checkpoints(view.follower)
        reached = {channel: point.position for channel, point in found.items()}
        return any(reached.get(service, 0) < heads[service] for service in view.services)


@asynccontextmanager
async def open_world(database: str) -> AsyncIterator[World]:
    async with open_stores(database, SERVICES) as stores:
        pool = await open_pool(database, size=8)
        kept = PostgresViews(pool)
        for view in views():
            await kept.prepare(view)
        yield World(stores, kept, History(stores))
        await pool.close()

"""Puts the HTTP edge of one process together and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import FastAPI

from events.store import StoreUnavailable
from infra.http.edge import build_app
from infra.http.nonces import open_nonces
from infra.http.parts import Settings as EdgeSettings
from infra.http.parts import make_parts
from infra.http.server import serving
from infra.platform import Platform, wall_clock_ms
from projections.catalog import routes as query_routes
from projections.queries import ViewReader
from services.kernel.acks import Acknowledger
from services.kernel.nonces import Nonces
from services.metering.api import routes as metering_routes
from services.registry.api import routes as registry_routes
from services.treasury.api import routes as treasury_routes


def make_app(platform: Platform, nonces: Nonces) -> FastAPI:
    """Return the application with every service's and every view's routes."""

    async def missing() -> Sequence[str]:
        try:
            await platform.stores["registry"].head()
        except StoreUnavailable:
            return ["the database is away"]  # where it is and why is told in the log, not to strangers
        return []

    key = platform.keys.signing("acknowledgements")
    parts = make_parts(
        EdgeSettings(platform.settings.public_url),
        appenders=platform.appenders,
        feed=platform.feed,
        acknowledger=Acknowledger(key.private, key.kid),
        nonces=nonces,
        now_ms=wall_clock_ms,
        ready=missing,
    )
    commands = {
        "registry": registry_routes(),
        "metering": metering_routes(),
        "treasury": treasury_routes(),
    }
    reader = ViewReader(platform.view_store)
    return build_app(parts, commands, query_routes(reader, lambda name, at: _record(platform, name, at)))


async def _record(platform: Platform, service: str, position: int) -> bytes | None:
    """Return a stored record's bytes, or None when there is none there."""
    store = platform.stores.get(service)
    found = await store.read(position - 1, 1) if store is not None and position > 0 else ()
    return found[0].state if found and found[0].id == position else None


async def serve_http(platform: Platform, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; requests in progress are finished. Raises PortTaken."""
    nonces = await open_nonces(platform.dsn, wall_clock_ms)
    try:
        async with serving(make_app(platform, nonces), platform.settings.host, platform.settings.port):
            await stop.wait()
    finally:
        await nonces.close()

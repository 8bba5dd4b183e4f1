"""Puts the HTTP edge of one process together and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from fastapi import FastAPI

from events.store import StoreUnavailable
from infra.following import alarms
from infra.gauges import gauges
from infra.http.edge import build_app
from infra.http.health import health_app
from infra.http.heartbeats import open_heartbeats
from infra.http.nonces import open_nonces
from infra.http.parts import Settings as EdgeSettings
from infra.http.parts import make_parts
from infra.http.request_log import RequestLog
from infra.http.server import AddressRefused, PortTaken, serving
from infra.http.watched import Watched
from infra.key_ring import KeyRing
from infra.platform import Platform, wall_clock_ms
from infra.profiles import ProfileOpener
from infra.telemetry.scrape import Scrape
from projections.catalog import routes as query_routes
from projections.queries import ViewReader
from services.kernel.acks import Acknowledger
from services.kernel.nonces import Nonces
from services.metering.api import routes as metering_routes
from services.metering.dispute_api import dispute_routes
from services.metering.heartbeat_api import heartbeat_routes
from services.metering.heartbeats import Heartbeats
from services.metering.storage_api import storage_routes
from services.registry.api import routes as registry_routes
from services.registry.profile_api import profile_routes
from services.treasury.api import routes as treasury_routes

_LOG: Final = logging.getLogger(__name__)

MOST_WARNINGS: Final = 20
"""Alarms that the readiness answer names; `commons views parked` names all."""


def make_app(platform: Platform, nonces: Nonces, heartbeats: Heartbeats) -> FastAPI:
    """Return the application with every service's and every view's routes."""
    key = platform.keys.signing("acknowledgements")
    acknowledger = Acknowledger(key.private, key.kid)
    parts = make_parts(
        EdgeSettings(platform.settings.public_url),
        appenders=platform.appenders,
        feed=platform.feed,
        acknowledger=acknowledger,
        nonces=nonces,
        now_ms=wall_clock_ms,
        ready=partial(missing, platform),
        warnings=partial(parked_warnings, platform),
    )
    parts = replace(parts, meter=platform.telemetry.meter, metrics=metrics_of(platform))
    commands = {
        "registry": (*registry_routes(), *profile_routes(platform.subject_keys, secrets.token_bytes)),
        "metering": (
            *metering_routes(),
            *storage_routes(),
            *dispute_routes(),
            *heartbeat_routes(heartbeats, acknowledger, wall_clock_ms),
        ),
        "treasury": treasury_routes(),
    }
    reader = ViewReader(platform.view_store)
    opener = ProfileOpener(platform.subject_keys, platform.feed)
    queries = query_routes(reader, lambda name, at: _record(platform, name, at), opener)
    app = build_app(parts, commands, queries, keys=KeyRing(platform.settings.home).published)
    app.add_middleware(RequestLog)
    app.add_middleware(Watched, telemetry=platform.telemetry, routes=app.routes)  # outermost: it times all of it
    return app


async def missing(platform: Platform) -> Sequence[str]:
    """Name what this process cannot serve without."""
    try:
        await platform.stores["registry"].head()
    except StoreUnavailable:
        return ["the database is away"]  # where it is and why is told in the log, not to strangers
    return []


def metrics_of(platform: Platform) -> Callable[[], Awaitable[bytes]]:
    """Return what tells the numbers of this process in Prometheus text."""
    return Scrape(platform.numbers, partial(gauges, platform)).text


async def parked_warnings(platform: Platform) -> Sequence[str]:
    """Name the views and policies that have parked facts. No error text: anyone may read this."""
    return [
        f"the {each.follower.replace('/', ' ', 1)} has parked facts of {each.service} from position {each.position} "
        f"on: see `commons parked list`"
        for each in (await alarms(platform))[:MOST_WARNINGS]
    ]


async def _record(platform: Platform, service: str, position: int) -> bytes | None:
    """Return a stored record's bytes, or None when there is none there."""
    store = platform.stores.get(service)
    found = await store.read(position - 1, 1) if store is not None and position > 0 else ()
    return found[0].state if found and found[0].id == position else None


async def serve_http(platform: Platform, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; requests in progress are finished. Raises PortTaken."""
    async with AsyncExitStack() as stack:
        nonces = await open_nonces(platform.dsn, wall_clock_ms)
        stack.push_async_callback(nonces.close)
        heartbeats = await open_heartbeats(platform.dsn, wall_clock_ms)
        stack.push_async_callback(heartbeats.close)
        app = make_app(platform, nonces, heartbeats)
        async with serving(app, platform.settings.host, platform.settings.port):
            await stop.wait()


@asynccontextmanager
async def health_beside(platform: Platform, roles: Sequence[str]) -> AsyncIterator[None]:
    """Answer health and metrics where the role `http` does not, at the address of COMMONS_METRICS_LISTEN if set."""
    address = platform.settings.metrics_listen
    if address is None or "http" in roles:
        yield
        return
    app = health_app(partial(missing, platform), partial(parked_warnings, platform), metrics_of(platform))
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(app, *address))
        except (PortTaken, AddressRefused) as error:  # nobody's work stops for want of numbers
            _LOG.warning("metrics and health of %s are not served, see COMMONS_METRICS_LISTEN: %s", roles, error)
        yield

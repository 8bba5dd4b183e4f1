"""The composition root: what runs is a list of roles, with what is chosen by URL scheme, and tests call the same.

`open_platform` connects the parts of one process; `run_roles` serves the roles until it is told to stop. A process
that only answers HTTP and one that only follows differ in the list of roles and in nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped]

from events.catalog import Catalog
from events.facts import FACTS_BY_SERVICE, catalog
from events.store import StoreUnavailable
from events.telemetry import Telemetry
from infra.buses import RELAY, open_bus, refuse_another_bus, relays
from infra.gate import Ungated
from infra.keys import KeyDirectory
from infra.keystore_backup import end_keystore_backups
from infra.obeying import ObeyingBus
from infra.postgres.alone import alone
from infra.postgres.aside import PostgresAside
from infra.postgres.input_key import bind_input_key
from infra.postgres.migration import check_postgres
from infra.postgres.orders import PostgresOrders
from infra.postgres.pool import open_pool
from infra.postgres.store import PostgresStore, open_stores
from infra.postgres.views import PostgresViews
from infra.runners import FOLLOW, followers_of
from infra.settings import Settings
from infra.subject_keys import PostgresSubjectKeys, open_subject_keys
from infra.telemetry.numbers import Numbers
from infra.telemetry.opening import open_telemetry
from projections.catalog import views
from projections.versions import Versions, make_versions
from projections.view import View
from services.kernel.appender import Appender
from services.kernel.clock import ClockRunner
from services.kernel.decider import Service
from services.kernel.feed import DirectoryFeed
from services.metering.service import service as metering
from services.registry.service import service as registry
from services.treasury.service import service as treasury

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

ROLES: Final = (
    "http",
    FOLLOW,
    "clock",
    RELAY,
    *(f"{role}:{name}" for role in (FOLLOW, RELAY) for name in FACTS_BY_SERVICE),
)
"""Every role of this version."""

CHILDREN: Final = (("http",), (FOLLOW, "clock", RELAY))
"""How `commons up` divides them on one machine, so that followers never slow a caller down.

Where followers read the stores themselves there is nothing to relay, and the role does nothing.
"""

CONNECTIONS: Final = 8
WATCH_SECONDS: Final = 2.0

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Platform:
    """The parts of one process, connected."""

    settings: Settings
    dsn: str
    catalog: Catalog
    keys: KeyDirectory
    stores: Mapping[str, PostgresStore]
    readers: asyncpg.Pool
    services: Mapping[str, Service[Any]]
    feed: DirectoryFeed
    appenders: Mapping[str, Appender[Any]]
    bus: ObeyingBus
    orders: PostgresOrders
    asides: Mapping[str, PostgresAside]
    views: Sequence[View]
    view_store: PostgresViews
    versions: Versions
    subject_keys: PostgresSubjectKeys
    telemetry: Telemetry
    numbers: Numbers


def wall_clock_ms() -> int:
    """Return the time in milliseconds UTC."""
    return time.time_ns() // 1_000_000


def services() -> dict[str, Service[Any]]:
    """Return every service's manifest by name."""
    made = (registry(), metering(), treasury(Ungated()))
    return {service.name: service for service in made}


@asynccontextmanager
async def open_platform(settings: Settings, dsn: str, spans: SpanProcessor | None = None) -> AsyncIterator[Platform]:
    """Connect the parts over the database at `dsn`; everything is closed on leaving.

    `spans` takes the spans in place of the collector that the settings name.
    Raises StoreUnavailable, OtherHome, and LayoutRefused for a database that other software has written.
    """
    async with AsyncExitStack() as stack:
        await check_postgres(dsn)
        keys, facts = KeyDirectory(settings.home), catalog()
        watch = await stack.enter_async_context(open_telemetry(settings.telemetry, dsn, spans))
        connections = watch.connections
        readers = await open_pool(dsn, size=CONNECTIONS, read_only=True, connections=connections)
        stack.push_async_callback(readers.close)
        view_readers = await open_pool(dsn, size=CONNECTIONS, read_only=True, by_key=False, connections=connections)
        stack.push_async_callback(view_readers.close)
        pool = await open_pool(dsn, size=CONNECTIONS, by_key=False, connections=connections)
        stack.push_async_callback(pool.close)
        await bind_input_key(pool, keys.secret("inputs"))
        stores = await stack.enter_async_context(
            open_stores(dsn, list(FACTS_BY_SERVICE), pool_size=CONNECTIONS, readers=readers, connections=connections)
        )
        subject_keys = await open_subject_keys(dsn, settings.home)
        stack.push_async_callback(subject_keys.close)
        feed = DirectoryFeed(stores["registry"], facts)
        made = services()
        appenders = {
            name: Appender(service, stores[name], facts, feed.current, keys.secret("inputs"), watch.telemetry)
            for name, service in made.items()
        }
        view_store = PostgresViews(pool, view_readers)
        yield Platform(
            settings=settings,
            dsn=dsn,
            catalog=facts,
            keys=keys,
            stores=stores,
            readers=readers,
            services=made,
            feed=feed,
            appenders=appenders,
            bus=ObeyingBus(open_bus(settings, stores), PostgresOrders(pool)),
            orders=PostgresOrders(pool),
            asides={name: PostgresAside(pool, name) for name in made},
            views=views(),
            view_store=view_store,
            versions=make_versions(view_store, stores, facts),
            subject_keys=subject_keys,
            telemetry=watch.telemetry,
            numbers=watch.numbers,
        )


async def run_roles(
    platform: Platform,
    roles: Sequence[str],
    stop: asyncio.Event,
    serve_http: Callable[[Platform, asyncio.Event], Awaitable[None]],
) -> None:
    """Serve the roles until `stop` is set. Raises BusChanged, StoreRewound, UpgradeNeeded: then nothing may go on."""
    await refuse_another_bus(platform.settings, platform.dsn)
    for appender in platform.appenders.values():
        await appender.load()
    for view in platform.views:
        await platform.versions.open(view)  # a query before the first fact finds an empty view, not an error
    await platform.feed.current()
    work: list[Awaitable[None]] = [appender.run() for appender in platform.appenders.values()]
    work.append(_watch(platform))
    work += followers_of(platform, roles)
    if "clock" in roles:
        work.append(_clock(platform))
        work.append(end_keystore_backups(platform.settings.home, wall_clock_ms))  # files of this machine: never alone
    work += relays(platform.settings, roles, platform.stores, platform.dsn, platform.telemetry)
    tasks = [asyncio.ensure_future(item) for item in work]
    edge = asyncio.ensure_future(serve_http(platform, stop)) if "http" in roles else None
    if edge is not None:
        tasks.append(edge)
    ending = asyncio.ensure_future(stop.wait())
    pending = {*tasks, ending}
    try:
        failed = False
        while not stop.is_set() and not failed:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            failed = any(task.exception() is not None for task in done)
        if not failed and not await platform.bus.drain():
            _LOG.warning("some pages at hand took too long, they are taken again at the next start")
        if edge is not None and not failed:
            await asyncio.wait([edge])  # requests in progress still need the writers
    finally:
        await _end(platform, tasks, ending)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _end(platform: Platform, tasks: Sequence[asyncio.Future[None]], ending: asyncio.Future[Any]) -> None:
    """Stop what still runs, and keep the folded states for a quick start."""
    for task in (*tasks, ending):
        if not task.done():
            task.cancel()
    await asyncio.gather(*tasks, ending, return_exceptions=True)
    for appender in platform.appenders.values():
        try:
            await appender.snapshot()
        except StoreUnavailable:
            return


async def _watch(platform: Platform) -> None:
    """Say once that the database is away and once that it is back; everyone else just waits.

    What this process has folded is compared with the stores on the way: raises StoreRewound when it was folded from
    records that a restore has taken away, UpgradeNeeded when newer software writes beside it.
    """
    away = False
    while True:
        try:
            await platform.feed.current()
            for appender in platform.appenders.values():
                await appender.refresh()
        except StoreUnavailable as error:
            if not away:
                _LOG.warning("the database is away, callers are told to wait: %s", error)
            away = True
        else:
            if away:
                _LOG.warning("the database is back")
            away = False
        await asyncio.sleep(WATCH_SECONDS)


async def _clock(platform: Platform) -> None:
    """Tick for every service while this process is the one clock; stand by otherwise."""
    while True:
        try:
            async with alone(platform.dsn, "clock") as lost:
                ticking = [
                    asyncio.ensure_future(ClockRunner(appender, wall_clock_ms).run())
                    for appender in platform.appenders.values()
                ]
                losing = asyncio.ensure_future(lost.wait())
                try:
                    done, _ = await asyncio.wait([*ticking, losing], return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    for task in (*ticking, losing):
                        task.cancel()
                    await asyncio.gather(*ticking, losing, return_exceptions=True)
        except StoreUnavailable:
            await asyncio.sleep(1.0)

"""Data of the last release under this software: no byte of a fact changes, and all that is folded is the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from events.envelope import decode_envelope, encode_data, encode_envelope
from events.facts import catalog
from events.store import Store
from infra.cli.views import _rebuild_all
from infra.doctor import examine
from infra.http.heartbeats import open_heartbeats
from infra.http.nonces import open_nonces
from infra.keys import KeyDirectory
from infra.memory_views import MemoryViews
from infra.platform import Platform, open_platform, services, wall_clock_ms
from infra.postgres.migration import Done, check_layouts, check_postgres, migrate
from infra.postgres.schema import LAYOUT
from infra.settings import read_settings
from projections.catalog import views
from projections.rebuild import Rebuild
from projections.store import ViewStore
from projections.view import View
from services.kernel.appender import Appender
from services.kernel.feed import DirectoryFeed
from services.kernel.snapshot import freeze
from tests import last_release

KNOWN = {view.name: view for view in views()}


def silent(*_told: object) -> None:
    """Hear nothing of how far something is."""


def test_every_fact_decodes_and_encodes_to_the_same_bytes() -> None:
    known, seen = catalog(), set()
    for raw in last_release.records():
        envelope = decode_envelope(raw)
        assert encode_envelope(envelope) == raw
        fact = known.decode_data(envelope.type, envelope.data)
        if envelope.type not in known.upcasts:
            assert bytes(encode_data(fact)) == bytes(envelope.data), envelope.type
        seen.add(envelope.type)
    assert len(last_release.records()) == sum(last_release.expected().heads.values())
    assert len(seen) > 30, "the sample shows only a few of the last release's facts"


def same_or_newer(found: Mapping[str, str], hashes: str = "hash") -> None:
    """Compare hashes with those of the last release; a view that says something else has a higher version."""
    for name, was in last_release.expected().views.items():
        if KNOWN[name].version == was["version"]:
            assert found[name] == was[hashes], f"the view {name} says something else and has the same version"
        else:
            assert KNOWN[name].version > was["version"]


async def rebuilt(store: ViewStore, stores: Mapping[str, Store]) -> dict[str, str]:
    found = {}
    for view in KNOWN.values():
        await store.prepare(view)
        report = await Rebuild(view, store, stores, catalog()).run()
        assert report.parked == 0
        found[view.name] = report.hash_after
    return found


async def test_views_folded_anew_in_memory_have_the_hashes_the_last_release_had() -> None:
    same_or_newer(await rebuilt(MemoryViews(), last_release.in_memory()), "memory_hash")


@pytest.fixture
def home(tmp_path: Path, database: str) -> Path:
    """The last release's home, with its database poured into an empty one."""
    last_release.keys(tmp_path / "home")
    last_release.pour(database)
    return tmp_path / "home"


def test_migrating_says_what_it_did_and_the_tables_are_this_software_s(home: Path, database: str) -> None:
    async def main() -> None:
        done = await migrate(database, last_release.SERVICES)
        assert done[0] == Done("instance", f"write-down-postgres-{await check_postgres(database)}")
        assert {step.part for step in done[1:]} <= set(last_release.SERVICES)
        layouts = await check_layouts(database, last_release.SERVICES)
        assert layouts == dict.fromkeys(last_release.SERVICES, LAYOUT)
        assert await migrate(database, last_release.SERVICES) == []

    asyncio.run(main())
    with psycopg.connect(database) as connection:
        for service, head in last_release.expected().heads.items():
            row = connection.execute(f"SELECT count(*) FROM {service}.events".encode()).fetchone()
            assert row == (head,)


def balances(database: str, version: int) -> dict[str, str]:
    """Return what every account holds, as the tables of a version of the view say."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(f"SELECT account, balance FROM views.balances_v{version}_accounts".encode())
        return {account: str(balance) for account, balance in rows}


async def folded(platform: Platform, name: str) -> bytes:
    """Fold every fact of a service, without a snapshot."""
    stores = last_release.in_memory()
    feed = DirectoryFeed(stores["registry"], catalog())
    appender = Appender(services()[name], stores[name], catalog(), feed.current, b"k" * 32)
    await appender.refresh()
    return freeze(appender.state)


async def stands(platform: Platform) -> None:
    """Look at everything as a start does: snapshots, views that stand, views that are built, the doctor."""
    for name, appender in platform.appenders.items():
        await appender.load()
        assert freeze(appender.state) == await folded(platform, name), f"the old snapshot of {name} means another state"
    await platform.feed.current()
    was = {name: each["version"] for name, each in last_release.expected().views.items()}
    reports, unbuilt = await _rebuild_all(platform, [], check=True, quiet=True)
    assert unbuilt == [view.name for view in platform.views if was.get(view.name) != view.version]
    assert all(report.equal and not report.parked for report in reports)
    found = {}
    for view in platform.views:
        await platform.versions.make(view)
        async with platform.view_store.reading(view) as snapshot:
            found[view.name] = await snapshot.digest(view)
        assert await same_as_rebuilt(platform, view)
    same_or_newer(found)
    checks = await examine(platform, silent)
    assert [check for check in checks if check.verdict == "broken"] == []
    assert {f"records of {name}" for name in last_release.SERVICES} <= {check.name for check in checks}


async def test_the_edge_s_old_tables_take_what_the_edge_has_to_remember_now(home: Path, database: str) -> None:
    nonces, heartbeats = await open_nonces(database, wall_clock_ms), await open_heartbeats(database, wall_clock_ms)
    try:
        assert await nonces.take("kid", "n1", wall_clock_ms() + 60_000)
        assert not await nonces.take("kid", "n1", wall_clock_ms() + 60_000)
    finally:
        await nonces.close()
        await heartbeats.close()


async def same_as_rebuilt(platform: Platform, view: View) -> bool:
    report = await Rebuild(view, platform.view_store, platform.stores, platform.catalog).check()
    return report.equal and report.parked == 0


async def test_a_home_of_the_last_release_opens_and_nothing_in_it_means_something_else(
    home: Path, database: str
) -> None:
    await migrate(database, last_release.SERVICES)
    settings = read_settings({"COMMONS_HOME": str(home), "COMMONS_DATABASE": database})
    for name in ("operator", "acknowledgements"):
        KeyDirectory(home).secret(name)
    before = balances(database, last_release.expected().views["balances"]["version"])
    assert sum(map(int, before.values())) > 0
    async with open_platform(settings, database) as platform:
        await stands(platform)
    assert balances(database, KNOWN["balances"].version) == before

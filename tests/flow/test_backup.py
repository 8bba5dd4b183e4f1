"""Backup and restore of a real instance: nothing differs elsewhere, and whoever has seen more notices."""

from __future__ import annotations

import asyncio
import json
import stat
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from events.store import StoreRewound
from infra.backup.archive import Reader, new_file
from infra.backup.manifest import BackupRefused, Head
from infra.backup.restore import Target, refuse_another_community, restore_all
from infra.backup.take import file_in, take
from infra.checks import following
from infra.home import HomeRefused, check_home
from infra.key_ring import KeyRing
from infra.keystore_backup import remember_folder, remembered_folders
from infra.local import database
from infra.platform import Platform, open_platform
from infra.runners import view_runners
from projections.catalog import views
from tests.history import History, joined, opened, readings
from tests.instance import Instance

MORE = 10_000
"""Facts recorded after the backup."""


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, Path]:
    """A founded instance, stopped, and the backup that was taken while it ran."""
    folder = tmp_path_factory.mktemp("backup")
    instance = Instance(folder / "home")
    instance.start()
    try:
        instance.found()
        while any(row["position"] < row["head"] for row in instance.json("lag")["followers"]):
            pass
        path = folder / "first.tar"
        done = instance.commons("backup", str(path))
        assert done.returncode == 0, done.stderr
        running = instance.commons("restore", str(path), "--facts-only", "--force")
        assert running.returncode == 1
        assert "in use by another process" in running.stderr
        assert "secret keys in the clear" in done.stderr
    finally:
        instance.stop()
    return instance, path


def silent(*_told: object) -> None:
    """Hear nothing of how far something is."""


def manifest(path: Path) -> dict[str, Any]:
    with tarfile.open(path) as tar:
        raw = tar.extractfile("manifest.json")
        assert raw
        found: dict[str, Any] = json.loads(raw.read())
    return found


def with_platform(instance: Instance, work: Callable[[Platform], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            database(instance.settings, silent) as dsn,
            open_platform(instance.settings, dsn) as platform,
        ):
            await work(platform)

    asyncio.run(main())


async def record_more(platform: Platform) -> None:
    """Record facts of every service and let every view see them all."""
    history = History(platform.stores)
    third = MORE // 3 + 1
    await history.record(*(joined(1_000 + number, f"later-{number}") for number in range(third)))
    await history.record(*(("book/LATER", opened(f"pool/{number}", "pool")[1]) for number in range(third)))
    await history.record(*(readings(1_000 + number, 0, [(0, 60_000)]) for number in range(third)))
    heads = {name: (await store.head()).position for name, store in platform.stores.items()}
    following = [asyncio.ensure_future(runner.run()) for runner in view_runners(platform)]
    try:
        while not all([await caught_up(platform, view, heads) for view in platform.views]):
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in following)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def caught_up(platform: Platform, view: Any, heads: dict[str, int]) -> bool:
    points = await platform.view_store.checkpoints(view.follower)
    return all(name in points and points[name].position >= heads[name] for name in view.services)


async def every_view_refuses(platform: Platform) -> None:
    for runner in view_runners(platform):
        with pytest.raises(StoreRewound, match="commons rebuild"):
            await runner.subscribe()
    checks = [check async for check in following.views(platform)]
    assert len(checks) == len(platform.views)
    assert all(check.verdict == "broken" and "commons rebuild" in check.fix for check in checks)


@pytest.mark.soak
def test_the_archive_is_private_and_says_what_it_holds(backed_up: tuple[Instance, Path]) -> None:
    _instance, path = backed_up
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = manifest(path)
    with tarfile.open(path) as tar:
        assert {part["name"] for part in found["parts"]} | {"manifest.json"} == set(tar.getnames())
    names = {part["name"] for part in found["parts"]}
    assert {"database.dump", "keys/operator.key", "keys/inputs.key", "format.json"} <= names
    assert not any("log/" in name or "run/" in name or "password" in name for name in names)
    assert set(found["heads"]) == {"registry", "metering", "treasury"}
    assert found["postgres_major"] == 18
    assert not [each for each in path.parent.iterdir() if each.name.endswith(".part")]
    with pytest.raises(BackupRefused, match="nothing is overwritten"), new_file(path):
        pass


@pytest.mark.soak
def test_a_backup_without_keys_holds_none(backed_up: tuple[Instance, Path]) -> None:
    instance, _path = backed_up
    path = file_in(instance.home.parent, 1_763_000_000_000)
    assert path.name == "commons-20251113T021320Z.tar"

    async def work(platform: Platform) -> None:
        await take(
            instance.home,
            platform.dsn,
            path,
            services=list(platform.stores),
            views=platform.views,
            now_ms=1_763_000_000_000,
            tell=silent,
            with_keys=False,
        )

    with_platform(instance, work)
    with tarfile.open(path) as tar:
        assert [name for name in tar.getnames() if name.startswith("keys/")] == []


def test_a_backup_restored_elsewhere_is_the_same_instance(backed_up: tuple[Instance, Path]) -> None:
    instance, path = backed_up
    other = Instance(instance.home.parent / "elsewhere")
    restored = other.json("restore", str(path))
    assert restored["heads"] == manifest(path)["heads"]
    assert sorted(restored["equal_views"]) == sorted(manifest(path)["views"])
    assert restored["other_views"] == []
    assert KeyRing(other.home).member() == KeyRing(instance.home).member()
    assert not (other.home / "restore.unfinished").exists()
    rebuilt = {view["view"]: view["hash_after"] for view in other.json("rebuild")["views"]}
    assert rebuilt == {name: view["hash"] for name, view in manifest(path)["views"].items()}


@pytest.mark.soak
def test_a_home_in_use_is_put_aside_only_when_asked_and_nothing_is_deleted(
    backed_up: tuple[Instance, Path], tmp_path: Path
) -> None:
    _instance, path = backed_up
    home = tmp_path / "home"
    KeyRing(home).keys.secret("operator")
    before = (home / "keys" / "operator.key").read_text()
    remember_folder(home, tmp_path / "exports")
    settings = Instance(home).settings
    services = list(manifest(path)["heads"])
    target = Target(home, lambda: database(settings, silent, borrow=False, checked=False), services, views(), "17")
    with path.open("rb") as file:
        archive = Reader(file, silent)
        with pytest.raises(BackupRefused, match="--force"):
            asyncio.run(restore_all(target, archive, force=False))
        assert (home / "keys" / "operator.key").read_text() == before
        done = asyncio.run(restore_all(target, archive, force=True))
    assert (Path(done.aside) / "keys" / "operator.key").read_text() == before
    assert (home / "keys" / "operator.key").read_text() != before
    assert tmp_path / "exports" in remembered_folders(home), "backups of the key store there have to end all the same"


@pytest.mark.soak
def test_a_changed_byte_or_a_cut_archive_is_refused_before_anything_is_written(
    backed_up: tuple[Instance, Path], tmp_path: Path
) -> None:
    _instance, path = backed_up
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "changed.tar").write_bytes(raw)
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[: len(raw) * 2 // 3])
    (tmp_path / "other.tar").write_bytes(b"not an archive")
    empty = Instance(tmp_path / "home")
    for name, why in (("changed", "SHA-256 differs"), ("cut", "cut off"), ("other", "no archive of ours")):
        with (tmp_path / f"{name}.tar").open("rb") as file, pytest.raises(BackupRefused, match=why):
            Reader(file, silent)
    refused = empty.commons("restore", str(tmp_path / "changed.tar"))
    assert refused.returncode == 1
    assert "take another backup" in refused.stderr
    assert not empty.home.exists()


@pytest.mark.soak
def test_everyone_who_has_seen_more_stops_after_the_facts_were_restored(backed_up: tuple[Instance, Path]) -> None:
    instance, path = backed_up
    with_platform(instance, record_more)
    restored = instance.json("restore", str(path), "--facts-only", "--force")
    assert restored["heads"] == manifest(path)["heads"]
    with_platform(instance, every_view_refuses)
    started = instance.commons("up", timeout=60)
    assert started.returncode != 0
    assert "was rewound" in started.stderr
    assert "commons rebuild" in started.stderr
    instance.json("rebuild")
    assert instance.json("doctor")["sound"]


@pytest.mark.soak
def test_facts_of_another_community_are_refused(backed_up: tuple[Instance, Path], tmp_path: Path) -> None:
    """Decided by the first record of each service, so nothing has to be started for it."""
    _instance, path = backed_up
    with path.open("rb") as file:
        found = Reader(file, silent).manifest
    refuse_another_community(found, found.heads)
    other = {name: Head(head.position, head.record_hash, "ab" * 32) for name, head in found.heads.items()}
    with pytest.raises(BackupRefused, match="another community"):
        refuse_another_community(found, other)


def test_a_restore_that_was_cut_off_lets_nothing_start(tmp_path: Path) -> None:
    (tmp_path / "restore.unfinished").touch()
    with pytest.raises(HomeRefused, match="--force"):
        check_home(tmp_path, 18)

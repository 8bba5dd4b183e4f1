"""Backups of the key store: secret files that end after 30 days, and bring nobody back who was erased."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from events.values import DAY_MS
from infra.home import kept_files
from infra.keys import KeyFileRefused
from infra.keystore_backup import (
    end_keystore_backups,
    expire_keystore_backups,
    export_keystore,
    import_keystore,
    remember_folder,
    remembered_folders,
)
from infra.subject_keys import MemorySubjectKeys

ADA, BEN = (f"member/{digit * 32}" for digit in "ab")
OURS = {ADA, BEN}
NOW = 1_790_000_000_000


async def exported(folder: Path, now_ms: int = NOW) -> tuple[MemorySubjectKeys, Path]:
    keys = MemorySubjectKeys()
    await keys.create(ADA)
    await keys.create(BEN)
    return keys, await export_keystore(keys, folder, now_ms)


async def test_a_backup_is_a_secret_file_that_brings_all_keys_back(tmp_path: Path) -> None:
    keys, path = await exported(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    fresh = MemorySubjectKeys()
    assert await import_keystore(fresh, path, OURS, {}, NOW + DAY_MS) == 2
    assert await fresh.living() == await keys.living()
    assert await import_keystore(fresh, path, OURS, {}, NOW + DAY_MS) == 0


async def test_whoever_was_erased_since_stays_erased(tmp_path: Path) -> None:
    keys, path = await exported(tmp_path)
    await keys.destroy([ADA])
    assert await import_keystore(keys, path, OURS, {}, NOW) == 0
    fresh = MemorySubjectKeys()  # its store is new and knows nothing; the facts do
    assert await import_keystore(fresh, path, OURS, {ADA: 17}, NOW) == 1
    assert await fresh.get(ADA) is None


async def test_after_thirty_days_a_backup_is_taken_back_no_more_and_destroyed(tmp_path: Path) -> None:
    _, path = await exported(tmp_path)
    _, younger = await exported(tmp_path, NOW + DAY_MS)
    assert expire_keystore_backups(tmp_path, NOW + 30 * DAY_MS - 1) == []
    with pytest.raises(KeyFileRefused, match="ended"):
        await import_keystore(MemorySubjectKeys(), path, OURS, {}, NOW + 30 * DAY_MS)
    assert expire_keystore_backups(tmp_path, NOW + 30 * DAY_MS) == [path]
    assert not path.exists()
    assert younger.exists()


async def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "keystore-wrong.json"
    made = b'{"format":%d,"made_ms":1,"ends_ms":%d,"keys":{%s}}'
    strange = made % (1, NOW + 1, b'"%s":"%s"' % (ADA.encode(), b"z" * 64)), made % (1, -(10**18), b"")
    for raw in (b"{}", b"no json", made % (2, 2, b""), *strange):
        wrong.write_bytes(raw)
        with pytest.raises(KeyFileRefused):
            await import_keystore(MemorySubjectKeys(), wrong, OURS, {}, NOW)
        with pytest.raises(KeyFileRefused):
            expire_keystore_backups(tmp_path, NOW)


async def test_another_communitys_backup_brings_no_key_here(tmp_path: Path) -> None:
    _, path = await exported(tmp_path)
    fresh = MemorySubjectKeys()
    with pytest.raises(KeyFileRefused, match="another community"):
        await import_keystore(fresh, path, {f"member/{'c' * 32}"}, {}, NOW)
    assert await import_keystore(fresh, path, {BEN}, {}, NOW) == 1, "nobody here could erase the other one"
    assert set(await fresh.living()) == {BEN}


async def test_a_backup_of_the_home_holds_no_backup_of_its_key_store(tmp_path: Path) -> None:
    inside = tmp_path / "exported" / "here"
    inside.mkdir(parents=True)
    _, path = await exported(inside)
    (inside / "notes.json").write_text("kept")
    assert path.exists()
    assert [each.name for each in kept_files(tmp_path)] == ["notes.json"]


async def test_one_unreadable_file_keeps_no_other_backup_alive(tmp_path: Path) -> None:
    (tmp_path / "keystore-1.json").write_text("{}")
    _, path = await exported(tmp_path)
    with pytest.raises(KeyFileRefused, match="keystore-1"):
        expire_keystore_backups(tmp_path, NOW + 30 * DAY_MS)
    assert not path.exists()


async def test_a_running_instance_ends_backups_by_itself_wherever_they_were_exported_to(tmp_path: Path) -> None:
    home, kept, also, gone = (tmp_path / name for name in ("home", "kept", "also", "gone"))
    for folder in (home, kept, also):
        folder.mkdir(mode=0o700)
    for folder in (kept, gone, also, kept):
        remember_folder(home, folder)
    assert remembered_folders(home) == sorted([also, gone, kept])
    (_, first), (_, second) = await exported(kept), await exported(also)
    _, young = await exported(kept, NOW + DAY_MS)
    today = NOW
    ending = asyncio.create_task(end_keystore_backups(home, lambda: today, 0.01))
    await asyncio.sleep(0.05)
    assert first.exists()
    today = NOW + 30 * DAY_MS
    async with asyncio.timeout(5):
        while first.exists() or second.exists():
            await asyncio.sleep(0.01)
    ending.cancel()
    assert young.exists()

"""What every store of subject keys promises, judged over all adapters; and what PostgreSQL's own keeps of a key."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from infra.keys import KeyFileRefused
from infra.subject_keys import MemorySubjectKeys, PostgresSubjectKeys, open_subject_keys
from services.kernel.errors import SubjectIsErased
from services.kernel.subject_keys import SubjectKeys

ADA, BEN, CYD = (f"member/{digit * 32}" for digit in "abc")

Opener = Callable[[], Awaitable[SubjectKeys]]


@pytest.fixture(params=["memory", "postgres"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    opened: list[PostgresSubjectKeys] = []
    memory = MemorySubjectKeys()

    async def opener() -> SubjectKeys:
        if request.param == "memory":
            return memory
        opened.append(await open_subject_keys(request.getfixturevalue("database"), tmp_path))
        return opened[-1]

    yield opener
    for keys in opened:
        await keys.close()


async def test_a_key_is_made_once_and_stays_the_same(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    assert await one.get(ADA) is None
    made = await asyncio.gather(*((one, two)[index % 2].create(ADA) for index in range(20)))
    assert len(set(made)) == 1
    assert len(made[0]) == 32
    assert await two.get(ADA) == await two.create(ADA) == made[0]


async def test_every_subject_has_a_key_of_its_own(open_store: Opener) -> None:
    keys = await open_store()
    assert await keys.create(ADA) != await keys.create(BEN)
    assert set(await keys.living()) == {ADA, BEN}


async def test_a_destroyed_key_is_gone_for_ever_and_others_stay(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    await one.create(ADA)
    ben = await one.create(BEN)
    await one.destroy([ADA])
    for keys in (one, two):
        assert await keys.get(ADA) is None
        assert await keys.get(BEN) == ben
        with pytest.raises(SubjectIsErased):
            await keys.create(ADA)
    assert await two.living() == {BEN: ben}


async def test_destroying_again_or_what_was_never_made_changes_nothing_else(open_store: Opener) -> None:
    keys = await open_store()
    ben = await keys.create(BEN)
    for _ in range(2):
        await keys.destroy([ADA, ADA])
    await keys.destroy([])
    with pytest.raises(SubjectIsErased):
        await keys.create(ADA)
    assert await keys.get(BEN) == ben


async def test_a_backup_brings_back_what_is_missing_and_nothing_that_was_destroyed(open_store: Opener) -> None:
    keys = await open_store()
    ben = await keys.create(BEN)
    await keys.destroy([ADA])
    assert await keys.restore({ADA: b"a" * 32, BEN: b"b" * 32, CYD: b"c" * 32}) == 1
    assert await keys.living() == {BEN: ben, CYD: b"c" * 32}
    assert await keys.get(ADA) is None


async def test_keys_are_made_and_read_while_others_are_destroyed(open_store: Opener) -> None:
    one, two = await open_store(), await open_store()
    ben = await one.create(BEN)

    async def destroy() -> None:
        for index in range(8):
            await one.destroy([f"member/{index:032x}"])

    async def read() -> None:
        for index in range(60):
            assert await two.get(BEN) == ben
            assert len(await two.create(f"member/{100 + index % 3:032x}")) == 32

    await asyncio.gather(destroy(), read())
    assert len(await one.living()) == 4


# --- PostgreSQL only ---------------------------------------------------------------------------------------------


def masters(home: Path) -> dict[str, bytes]:
    return {path.name: bytes.fromhex(path.read_text()) for path in (home / "keys").glob("master.*.key")}


@pytest.fixture
async def keys(database: str, tmp_path: Path) -> AsyncIterator[PostgresSubjectKeys]:
    opened = await open_subject_keys(database, tmp_path)
    yield opened
    await opened.close()


async def rows(database: str) -> dict[str, bytes | None]:
    connection = await asyncpg.connect(database)
    try:
        return {row[0]: row[1] for row in await connection.fetch("SELECT * FROM keystore.subjects")}
    finally:
        await connection.close()


async def test_the_database_never_sees_a_key(keys: PostgresSubjectKeys, database: str, tmp_path: Path) -> None:
    key = await keys.create(ADA)
    wrapped = (await rows(database))[ADA]
    assert wrapped is not None
    assert key not in wrapped
    (file,) = (tmp_path / "keys").glob("master.*.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_erasing_changes_the_master_key_and_wraps_the_rest_anew(
    keys: PostgresSubjectKeys, database: str, tmp_path: Path
) -> None:
    await keys.create(ADA)
    await keys.create(BEN)
    before, old = await rows(database), masters(tmp_path)
    await keys.destroy([ADA])
    after, new = await rows(database), masters(tmp_path)
    assert after[ADA] is None
    assert after[BEN] != before[BEN]
    assert len(old) == len(new) == 1
    assert not set(old.values()) & set(new.values())


async def test_a_change_of_the_master_key_that_is_cut_off_loses_nothing(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the commit (two files, the old one counts) and after it (two files, the new one counts)."""
    keys = await open_subject_keys(database, tmp_path)
    ada, ben = await keys.create(ADA), await keys.create(BEN)
    (present,) = masters(tmp_path)
    name, _ = keys._masters.make(replaces=present.removeprefix("master.").removesuffix(".key"))
    assert len(masters(tmp_path)) == 2
    assert (await keys.get(ADA), await keys.get(BEN)) == (ada, ben)

    with monkeypatch.context() as patch:
        patch.setattr(keys._masters, "destroy_others", lambda _current: None)
        await keys.destroy([ADA])
    assert len(masters(tmp_path)) == 3
    await keys.close()

    again = await open_subject_keys(database, tmp_path)
    assert len(masters(tmp_path)) == 1
    assert name not in str(masters(tmp_path))
    assert (await again.get(ADA), await again.get(BEN)) == (None, ben)
    await again.close()


async def test_a_home_without_the_master_key_is_told_what_to_do(
    keys: PostgresSubjectKeys, database: str, tmp_path: Path
) -> None:
    await keys.create(ADA)
    with pytest.raises(KeyFileRefused, match="put it back"):
        await open_subject_keys(database, tmp_path / "another")


async def test_a_wrapped_key_under_another_name_does_not_open(keys: PostgresSubjectKeys, database: str) -> None:
    await keys.create(ADA)
    await keys.create(BEN)
    connection = await asyncpg.connect(database)
    await connection.execute(
        "UPDATE keystore.subjects SET wrapped = (SELECT wrapped FROM keystore.subjects WHERE subject = $1)", BEN
    )
    await connection.close()
    with pytest.raises(KeyFileRefused, match="altered"):
        await keys.get(ADA)


async def test_pointing_a_home_at_another_database_for_once_loses_no_master_key(
    keys: PostgresSubjectKeys, database: str, tmp_path: Path
) -> None:
    key = await keys.create(ADA)
    connection = await asyncpg.connect(database)
    await connection.execute("ALTER SCHEMA keystore RENAME TO keystore_elsewhere")
    other = await open_subject_keys(database, tmp_path)
    await other.create(BEN)
    await other.destroy([BEN])
    await other.close()
    await connection.execute("DROP SCHEMA keystore CASCADE; ALTER SCHEMA keystore_elsewhere RENAME TO keystore")
    await connection.close()
    assert await keys.get(ADA) == key

"""`commons restore`: every hash first, then the database in one transaction, then the proof that it is the same.

Two forms. A full restore makes an empty home (or, with force, puts what is there aside) hold exactly what the archive
holds, views and their checkpoints included. With facts only, the services' facts go back to the archive's moment in a
home that lives on: its keys and views stay, so every follower that has seen more notices (StoreRewound).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg  # type: ignore[import-untyped]

from infra.backup.archive import Reader
from infra.backup.contents import moment, schemas
from infra.backup.load import load
from infra.backup.manifest import DATABASE, BackupRefused, Head, Manifest
from infra.home import DATABASE as DATABASE_FOLDER
from infra.home import KEYS, MASTER, UNFINISHED, kept_files, replace_file
from infra.keystore_backup import remember_folder, remembered_folders
from infra.postgres.embedded import EmbeddedPostgres
from infra.postgres.embedded_errors import EmbeddedPostgresError, HomeInUse
from infra.postgres.migration import refuse_company
from infra.postgres.pool import translated
from infra.postgres.programs import major_of, programs
from infra.postgres.schema import LAYOUT
from projections.view import View


class OpenDatabase(Protocol):
    """Yields the address of the home's database, which nobody else may use meanwhile."""

    def __call__(self) -> AbstractAsyncContextManager[str]:
        """Open it."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where to restore to: the home, its database, and what this software knows."""

    home: Path
    database: OpenDatabase
    services: Sequence[str]
    views: Sequence[View]
    stamp: str
    """Digits that make the names of what is put aside new."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it: the heads, the views found equal, those rebuilt at need, and where old things are."""

    heads: Mapping[str, Head]
    equal_views: tuple[str, ...]
    other_views: tuple[str, ...]
    aside: str


async def restore_all(target: Target, archive: Reader, *, force: bool) -> Restored:
    """Make the home what the archive holds. Raises BackupRefused, ProgramFailed, StoreUnavailable."""
    manifest = archive.manifest
    refuse_newer(manifest)
    there = [path.relative_to(target.home).as_posix() for path in kept_files(target.home)]
    there += [DATABASE_FOLDER] if (target.home / DATABASE_FOLDER / "data").exists() else []
    if there and not force:
        raise BackupRefused(
            f"{target.home} is not empty ({', '.join(there[:3])}{' ...' if len(there) > 3 else ''}): choose an empty "  # noqa: PLR2004 - the first few
            "COMMONS_HOME, or --force, which puts what is there aside first and deletes nothing"
        )
    exported_to = remembered_folders(target.home)
    aside = await _put_aside(target) if there else None
    _remember(target.home, exported_to)
    replace_file(target.home / UNFINISHED, b"a restore is under way or was cut off\n")
    async with target.database() as dsn:
        renamed = await _load(target, archive, dsn, manifest.schemas, force=force)
        for part in manifest.parts:
            if part.name != DATABASE:
                _write_file(target.home, archive, part.name)
        _remember(target.home, exported_to)
        done = await _compared(target, manifest, dsn, facts_only=False)
    (target.home / UNFINISHED).unlink()
    where = [str(aside)] if aside else []
    return Restored(done.heads, done.equal_views, done.other_views, ", ".join([*where, *renamed]))


async def restore_facts(target: Target, archive: Reader, *, force: bool) -> Restored:
    """Bring the services' facts back to the archive's moment; keys and views stay. Raises as `restore_all`."""
    manifest = archive.manifest
    refuse_newer(manifest)
    async with target.database() as dsn:
        async with moment(dsn, target.services, ()) as now:
            refuse_another_community(manifest, now.heads)
            lost = {name: head.position - manifest.heads[name].position for name, head in now.heads.items()}
            if not force and any(count > 0 for count in lost.values()):
                told = ", ".join(f"{count:,} of {name}" for name, count in lost.items() if count > 0)
                raise BackupRefused(
                    f"facts recorded since the backup would be put aside ({told}): say --force when that is meant"
                )
        chosen = [name for name in manifest.schemas if name in target.services]
        renamed = await _load(target, archive, dsn, chosen, force=True)
        done = await _compared(target, manifest, dsn, facts_only=True)
    return Restored(done.heads, (), (), ", ".join(renamed))


def refuse_newer(manifest: Manifest) -> None:
    """Raise BackupRefused for an archive of tables this software does not know."""
    for service, layout in manifest.layouts.items():
        if layout > LAYOUT:
            raise BackupRefused(
                f"the archive's tables of {service} have layout {layout} (software {manifest.software}), this software "
                f"knows {LAYOUT}: restore it with software {manifest.software} or newer"
            )


def refuse_another_community(manifest: Manifest, now: Mapping[str, Head]) -> None:
    """Raise BackupRefused when the facts now there did not begin as those of the archive."""
    for name, head in now.items():
        backed_up = manifest.heads.get(name)
        if backed_up is None:
            raise BackupRefused(f"the archive holds no facts of {name}: facts can only go back all together")
        if head.first and backed_up.first and head.first != backed_up.first:
            raise BackupRefused(
                f"the archive is of another community (record 1 of {name} differs): restore it into an empty home"
            )


async def _put_aside(target: Target) -> Path:
    """Move everything that is kept into a folder of the home, with no server running on it. Raises HomeInUse."""
    await asyncio.to_thread(_end_server, target.home)
    aside = target.home / f"replaced-{target.stamp}"
    aside.mkdir(mode=0o700)
    for top in sorted(target.home.iterdir()):
        if top.name not in {"run", "log", UNFINISHED} and not top.name.startswith("replaced-"):
            top.rename(aside / top.name)
    if not (aside / DATABASE_FOLDER).exists():  # an external database keeps its key store, which its master key opens
        for master in (aside / KEYS).glob(f"{MASTER}*"):
            (target.home / KEYS).mkdir(mode=0o700, exist_ok=True)
            master.rename(target.home / KEYS / master.name)
    return aside


def _remember(home: Path, exported_to: Sequence[Path]) -> None:
    """Keep in mind where the key store was exported to: what lies there has to end, whatever the archive knows."""
    if exported_to:
        remember_folder(home, *exported_to)


def _end_server(home: Path) -> None:
    """End a server that outlived its supervisor; one whose data is broken does not start, and then none runs.

    Raises HomeInUse while `commons up` runs.
    """
    if not (home / DATABASE_FOLDER / "data").exists():
        return
    server = EmbeddedPostgres(home)
    try:
        server.start()
    except HomeInUse:
        raise
    except EmbeddedPostgresError:
        return
    server.stop()


async def _load(target: Target, archive: Reader, dsn: str, chosen: Sequence[str], *, force: bool) -> list[str]:
    """Load the schemas chosen; return what those in their way are called now."""
    manifest = archive.manifest
    with translated():
        connection = await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "commons migrate"})
        try:
            await refuse_company(connection)
            major = major_of(int(await connection.fetchval("SELECT current_setting('server_version_num')")))
            there = [name for name in await schemas(connection) if name in chosen]
        finally:
            await connection.close()
    if major != manifest.postgres_major:
        raise BackupRefused(
            f"the archive was made by PostgreSQL {manifest.postgres_major}, this database is {major}: restore it into "
            f"one of version {manifest.postgres_major} (COMMONS_DATABASE), then move that on with pg_upgrade"
        )
    if there and not force:
        raise BackupRefused(
            f"the database holds {', '.join(there)} already: choose an empty one, or --force, which renames them first"
        )
    rename = [(name, f"{name}_replaced_{target.stamp}") for name in there]
    await asyncio.to_thread(load, programs(dsn, major), lambda: archive.read(DATABASE), chosen, rename)
    return [new for _, new in rename]


def _write_file(home: Path, archive: Reader, name: str) -> None:
    path = home / name
    for folder in reversed(path.relative_to(home).parents):
        (home / folder).mkdir(mode=0o700, exist_ok=True)
    replace_file(path, b"".join(archive.read(name)))


async def _compared(target: Target, manifest: Manifest, dsn: str, *, facts_only: bool) -> Restored:
    """Compare what stands there now with the manifest. Raises BackupRefused when it is not the same."""
    async with moment(dsn, target.services, () if facts_only else target.views) as now:
        wrong = [name for name, head in manifest.heads.items() if now.heads.get(name) != head]
        equal = [name for name, view in manifest.views.items() if now.views.get(name) == view]
        wrong += [
            f"view {name}"
            for name, view in manifest.views.items()
            if name in now.views and now.views[name].version == view.version and now.views[name] != view
        ]
    if wrong:
        raise BackupRefused(f"what was restored is not what was backed up: {', '.join(wrong)}; do not use this home")
    other = [view.name for view in target.views if view.name not in equal]
    return Restored(now.heads, tuple(equal), tuple(other), "")

"""`commons backup`: one moment of the database, the keys and the rest of the home in one private file.

What a caller may believe when `take` has returned: the file is whole and durable under its name, and a restore of it
holds exactly the facts up to the heads of its manifest. Before, nothing has that name.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from infra.backup.archive import Tell, Writer, new_file
from infra.backup.contents import Moment, moment
from infra.backup.manifest import DATABASE, FORMAT, BackupRefused, Manifest, Part
from infra.home import KEYS, kept_files, maintenance, software
from infra.postgres.programs import finish, programs
from projections.view import View

_COMPRESSION: Final = "gzip:1"


def file_in(target: Path, now_ms: int) -> Path:
    """Return the archive's path: `target`, or a name with the time in it when that is a folder."""
    if not target.is_dir():
        return target
    return target / f"commons-{_time(now_ms):%Y%m%dT%H%M%SZ}.tar"


async def take(
    home: Path,
    dsn: str,
    path: Path,
    *,
    services: Sequence[str],
    views: Sequence[View],
    now_ms: int,
    tell: Tell,
    with_keys: bool = True,
) -> Manifest:
    """Write an archive to `path` and return its manifest. Raises BackupRefused, ProgramFailed, StoreUnavailable."""
    with maintenance(home), new_file(path) as file:
        writer = Writer(file, now_ms // 1_000, tell)
        async with moment(dsn, services, views) as held:
            await asyncio.to_thread(_dump, writer, dsn, held)
        for found in kept_files(home):
            name = found.relative_to(home).as_posix()
            if with_keys or not name.startswith(f"{KEYS}/"):
                _add_file(writer, found, name)
        manifest = _manifest(held, writer.parts, now_ms)
        writer.finish(manifest)
    return manifest


def _dump(writer: Writer, dsn: str, held: Moment) -> Part:
    """Let pg_dump write the moment into the archive (its custom format)."""
    arguments = [f"--snapshot={held.snapshot}", "--format=custom", f"--compress={_COMPRESSION}"]
    arguments += ["--no-owner", "--no-privileges", *(f'--schema="{name}"' for name in held.schemas)]
    if not held.schemas:
        raise BackupRefused("the database holds nothing of ours: there is nothing to back up yet")
    process = programs(dsn, held.postgres_major).start("pg_dump", *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        part = writer.add(DATABASE, "the database, for pg_restore", process.stdout.read)
        finish(process, "pg_dump")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return part


def _add_file(writer: Writer, path: Path, name: str) -> None:
    with path.open("rb") as file:
        writer.add(name, "a secret key" if name.startswith(f"{KEYS}/") else "a file of the home", _as_long_as_now(file))


def _as_long_as_now(file: IO[bytes]) -> Callable[[int], bytes]:
    """Return a reader of a file up to the size it has now: one that grows meanwhile ends where it was."""
    left = os.fstat(file.fileno()).st_size

    def read(size: int) -> bytes:
        nonlocal left
        data = file.read(min(size, left))
        left -= len(data)
        return data

    return read


def _manifest(held: Moment, parts: Sequence[Part], now_ms: int) -> Manifest:
    return Manifest(
        format=FORMAT,
        made=f"{_time(now_ms):%Y-%m-%dT%H:%M:%SZ}",
        software=software(),
        postgres_major=held.postgres_major,
        layouts=held.layouts,
        schemas=held.schemas,
        heads=held.heads,
        views=held.views,
        parts=tuple(parts),
    )


def _time(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1_000, UTC)

"""Make a data directory, whole or not at all, and recognise a broken one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from infra.postgres.binaries import MAJOR_VERSION, Account
from infra.postgres.embedded_errors import DataDirectoryBroken, DiskFull, NotOurs, ServerExited, WrongVersion
from infra.postgres.place import ROLE, Place, free_bytes
from infra.postgres.processes import data_argument, launch

_INITDB: Final = (
    f"--username={ROLE}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",  # the order of text is the order of its bytes, on every machine and for ever
    "--data-checksums",
    "--no-instructions",
)
_WITHOUT_THESE_IT_IS_BROKEN: Final = ("PG_VERSION", "global/pg_control", "pg_wal", "base")
_WAL_SEGMENT_BYTES: Final = 16 * 2**20
_NO_SPACE: Final = ("No space left on device", "Disk quota exceeded")


def is_made(data: Path) -> bool:
    """Whether there is a data directory: anything but an absent or an empty one."""
    return data.exists() and any(data.iterdir())


def check(data: Path, account: Account) -> None:
    """Raise `DataDirectoryBroken`, `WrongVersion` or `NotOurs` for what the server could not start from."""
    missing = [name for name in _WITHOUT_THESE_IT_IS_BROKEN if not (data / name).exists()]
    if missing:
        raise DataDirectoryBroken(data, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    found = (data / "PG_VERSION").read_text(errors="replace").strip()
    if found != MAJOR_VERSION:
        raise WrongVersion(data, found, MAJOR_VERSION)
    owner = data.stat().st_uid
    if owner != account.uid:
        raise NotOurs(data, owner, account.uid)
    data.chmod(0o700)


def make(place: Place, binaries: Path, account: Account) -> None:
    """Run initdb beside the final place and rename the result; raises `DiskFull` or `ServerExited`.

    A start that is killed in the middle leaves only a draft, which the next start throws away.
    """
    shutil.rmtree(place.draft, ignore_errors=True)
    place.draft.mkdir(mode=0o700)
    if account.switched:
        os.chown(place.draft, account.uid, account.gid)
    with tempfile.TemporaryFile(dir=place.run) as secret, tempfile.TemporaryFile(dir=place.run) as told:
        secret.write(place.password().encode() + b"\n")
        secret.flush()
        secret.seek(0)
        if account.switched:
            os.fchown(secret.fileno(), account.uid, account.gid)
        command: list[str | Path] = [
            binaries / "initdb",
            f"--pgdata={data_argument(place.draft, account)}",
            f"--pwfile=/dev/fd/{secret.fileno()}",  # neither an argument nor a file with a name
            *_INITDB,
        ]
        code = launch(command, place.draft, account, output=told.fileno(), descriptors=[secret.fileno()]).wait()
        told.seek(0)
        lines = told.read().decode(errors="replace").strip().splitlines()
    if code != 0:
        shutil.rmtree(place.draft, ignore_errors=True)
        raise failure(place, code, lines)
    place.draft.rename(place.data)
    _sync_directory(place.data.parent)


def failure(place: Place, code: int | None, lines: list[str]) -> DiskFull | ServerExited:
    """Tell a full disk from any other end of a program of the server, by its last words."""
    free = free_bytes(place.data)
    told = [line for line in lines if any(words in line for words in _NO_SPACE)]
    if told or free < _WAL_SEGMENT_BYTES:  # on a full disk the log could not be written either
        return DiskFull(place.data, free, (told or lines or ["(no room to say anything)"])[-1])
    return ServerExited(code, place.log_file, lines[-15:])


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

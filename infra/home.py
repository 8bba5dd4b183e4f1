"""What lies in a home and may be kept: which parts are data, which mean nothing without living processes.

home/
├── format.json   by which software and PostgreSQL the home was made; looked at before anything is started
├── keys/         secrets, 0600
├── postgres/     the embedded database
├── log/, run/    logs, and what has a meaning only while processes live
└── anything else is kept by a backup as it is
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

FORMAT: Final = 1
"""Version of the home's layout."""

KEYS: Final = "keys"
PASSING: Final = frozenset({"log", "run"})
"""Folders that no backup holds."""

DATABASE: Final = "postgres"
FORMAT_FILE: Final = "format.json"
UNFINISHED: Final = "restore.unfinished"
MASTER: Final = "master."
"""How master keys of sealed personal data begin: in no backup, for they must end when someone is erased."""

KEYSTORE_BACKUPS: Final = "keystore-*.json"
"""Files with the keys of sealed personal data: in no backup either, wherever in the home they were exported to."""

PASSWORD: Final = "postgres.password"  # noqa: S105 - a file's name
"""The embedded database's own password, which a new database makes anew."""


class HomeRefused(Exception):
    """This home cannot be used as it is; the message says why and what to do."""


class HomeFormat(msgspec.Struct, frozen=True):
    """What is written down in the home. Fields of later versions are ignored, a later `format` is not."""

    format: int
    software: str
    postgres_major: int | None = None


def software() -> str:
    """Return the version of this software."""
    try:
        return version("compute-commons")
    except PackageNotFoundError:
        return "unknown"


def check_home(home: Path, postgres_major: int | None) -> HomeFormat | None:
    """Return what the home was made by, None for one of before this was written down. Raises HomeRefused.

    `postgres_major` is that of the embedded database; None for an external one.
    """
    if (home / UNFINISHED).exists():
        raise HomeRefused(
            f"a restore into {home} was cut off: run `commons restore FILE --force` again, nothing else may start here"
        )
    try:
        found = msgspec.json.decode((home / FORMAT_FILE).read_bytes(), type=HomeFormat)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise HomeRefused(f"{home / FORMAT_FILE} cannot be read ({error}): restore it from your backup") from error
    if found.format > FORMAT:
        raise HomeRefused(
            f"{home} has format {found.format} (software {found.software}), this software knows {FORMAT}: "
            "start the newer software"
        )
    if None not in (postgres_major, found.postgres_major) and found.postgres_major != postgres_major:
        raise HomeRefused(
            f"{home} was made with PostgreSQL {found.postgres_major}, this software brings {postgres_major}: back it "
            f"up with the software that made it ({found.software}), and restore the database by pg_restore"
        )
    return found


def write_format(home: Path, postgres_major: int | None) -> None:
    """Write down by what this home is used, where that is not there yet."""
    made = HomeFormat(FORMAT, software(), postgres_major)
    if not (home / FORMAT_FILE).exists():
        replace_file(home / FORMAT_FILE, msgspec.json.encode(made) + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Give `path` these bytes, whole and durable or not at all, mode 0600."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(6)}.new")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept_files(home: Path) -> Iterator[Path]:
    """Yield every file of the home that a backup holds: keys and the rest, without database, logs, sockets, links."""
    for top in sorted(home.iterdir()):
        if top.name in PASSING or top.name in {DATABASE, UNFINISHED} or top.name.startswith("replaced-"):
            continue
        found = [top] if not top.is_dir() else sorted(top.rglob("*"))
        for path in found:
            passing = path.name.endswith((".part", ".new")) or path.name == PASSWORD
            passing = passing or (path.parent.name == KEYS and path.name.startswith(MASTER))
            passing = passing or path.match(KEYSTORE_BACKUPS)
            if path.is_file() and not path.is_symlink() and not passing:
                yield path


def private_folder(home: Path, name: str) -> Path:
    """Return a folder of the home, both made 0700 where they are missing (`parents` alone would open the home)."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / name
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@contextmanager
def maintenance(home: Path) -> Iterator[None]:
    """Hold the lock under which a home is backed up, restored, migrated or gets new keys. Raises HomeRefused."""
    run = private_folder(home, "run")
    descriptor = os.open(run / "maintenance.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HomeRefused(
                f"a backup, restore, migration or key rotation of {home} is under way: wait for its end"
            ) from error
        yield
    finally:
        os.close(descriptor)

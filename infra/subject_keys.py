"""Subject keys in memory and in PostgreSQL (schema `keystore`); the port is `services.kernel.subject_keys`.

In the database each key is wrapped by the home's master key (AES-256-GCM, the subject as associated data). Deleting a
row would not be enough: the database keeps dead rows and its log for a while. So `destroy` changes the master key as
well (see `master_keys`): whatever old bytes are found later, nothing opens them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.sealing import KEY_BYTES, NONCE_BYTES
from infra.keys import KeyFileRefused
from infra.master_keys import MasterKeys
from infra.postgres.pool import open_pool, translated
from infra.postgres.schema import making
from services.kernel.errors import SubjectIsErased

SCHEMA: Final = "keystore"
"""Never in a backup of the facts: it is backed up on its own, and those backups end."""

_DDL: Final = """
CREATE SCHEMA IF NOT EXISTS keystore;
CREATE TABLE IF NOT EXISTS keystore.subjects (subject text PRIMARY KEY, wrapped bytea);
COMMENT ON COLUMN keystore.subjects.wrapped IS 'NULL: destroyed for ever';
CREATE TABLE IF NOT EXISTS keystore.master (one boolean PRIMARY KEY DEFAULT true CHECK (one), name text NOT NULL);
"""
_LOCK: Final = 6_204_770_114
_MASTER: Final = "SELECT name FROM keystore.master"
_FIND: Final = "SELECT wrapped, (SELECT name FROM keystore.master) FROM keystore.subjects WHERE subject = $1"
_LIVING: Final = "SELECT subject, wrapped FROM keystore.subjects WHERE wrapped IS NOT NULL"
_DESTROYED: Final = "SELECT subject FROM keystore.subjects WHERE wrapped IS NULL AND subject = ANY($1)"
_DESTROY: Final = """
INSERT INTO keystore.subjects SELECT unnest($1::text[]), NULL ON CONFLICT (subject) DO UPDATE SET wrapped = NULL
"""
_REWRAP: Final = """
UPDATE keystore.subjects AS kept SET wrapped = fresh.wrapped
FROM unnest($1::text[], $2::bytea[]) AS fresh (subject, wrapped) WHERE kept.subject = fresh.subject
"""
_AAD: Final = b"commons.subject-key.v1\0"
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.05


class MemorySubjectKeys:
    """Keys of one process, gone when it ends."""

    def __init__(self) -> None:
        """Begin without keys."""
        self._keys: dict[str, bytes | None] = {}

    async def create(self, subject: str) -> bytes:
        """Return the subject's key, made at the first call. Raises SubjectIsErased."""
        key = self._keys.setdefault(subject, secrets.token_bytes(KEY_BYTES))
        if key is None:
            raise SubjectIsErased("the key of this subject was destroyed", subject=subject)
        return key

    async def get(self, subject: str) -> bytes | None:
        """Return the subject's key, None when there is none."""
        return self._keys.get(subject)

    async def destroy(self, subjects: Sequence[str]) -> None:
        """Destroy keys for ever."""
        self._keys |= dict.fromkeys(subjects)

    async def living(self) -> Mapping[str, bytes]:
        """Return all keys there are."""
        return {subject: key for subject, key in self._keys.items() if key is not None}

    async def restore(self, keys: Mapping[str, bytes]) -> int:
        """Take back missing keys."""
        missing = {subject: key for subject, key in keys.items() if subject not in self._keys}
        self._keys |= missing
        return len(missing)


class PostgresSubjectKeys:
    """Keys shared by all processes of one home. Nothing is remembered here: a destroyed key works nowhere at once."""

    def __init__(self, pool: asyncpg.Pool, masters: MasterKeys) -> None:
        """Use the caller's pool (see `open_subject_keys`); the tables must stand."""
        self._pool = pool
        self._masters = masters

    async def create(self, subject: str) -> bytes:
        """Return the subject's key, made at the first call. Raises SubjectIsErased, StoreUnavailable."""
        found = await self.get(subject)
        if found is not None:
            return found
        async with self._alone() as (connection, master):
            row = await connection.fetchrow(_FIND, subject)
            if row is None:
                key = secrets.token_bytes(KEY_BYTES)
                await connection.execute(
                    "INSERT INTO keystore.subjects VALUES ($1, $2)", subject, _wrap(master, subject, key)
                )
                return key
            if row[0] is None:
                raise SubjectIsErased("the key of this subject was destroyed", subject=subject)
            return _unwrap(master, subject, row[0])

    async def get(self, subject: str) -> bytes | None:
        """Return the subject's key. Raises StoreUnavailable, KeyFileRefused."""
        for attempt in range(_TRIES):
            with translated():
                async with self._pool.acquire() as connection:
                    row = await connection.fetchrow(_FIND, subject)
            if row is None or row[0] is None:
                return None
            try:
                return _unwrap(self._masters.read(row[1]), subject, row[0])
            except (KeyFileRefused, FileNotFoundError):
                # Another erasure may have changed the master key between the two reads.
                if attempt == _TRIES - 1:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError("unreachable")

    async def destroy(self, subjects: Sequence[str]) -> None:
        """Destroy keys for ever, with the master key that wrapped them. Raises StoreUnavailable, OSError."""
        async with self._alone() as (connection, master):
            gone = {row[0] for row in await connection.fetch(_DESTROYED, list(subjects))}
            new = sorted(set(subjects) - gone)
            if new:
                await connection.execute(_DESTROY, new)
                await self._change_master(connection, master)
        async with self._alone():
            pass  # now that it is durable, the old master key goes

    async def rewrap(self) -> int:
        """Wrap all keys with a new master key, as after a theft; return how many. Raises like `destroy`."""
        async with self._alone() as (connection, master):
            count = await self._change_master(connection, master)
        async with self._alone():
            return count

    async def _change_master(self, connection: asyncpg.Connection, master: bytes) -> int:
        living = {row[0]: _unwrap(master, row[0], row[1]) for row in await connection.fetch(_LIVING)}
        name, fresh = self._masters.make(replaces=await connection.fetchval(_MASTER))
        wrapped = [_wrap(fresh, subject, key) for subject, key in living.items()]
        await connection.execute(_REWRAP, list(living), wrapped)
        await connection.execute("UPDATE keystore.master SET name = $1", name)
        return len(living)

    async def living(self) -> Mapping[str, bytes]:
        """Return all keys there are. Raises StoreUnavailable."""
        async with self._alone() as (connection, master):
            return {row[0]: _unwrap(master, row[0], row[1]) for row in await connection.fetch(_LIVING)}

    async def restore(self, keys: Mapping[str, bytes]) -> int:
        """Take back missing keys. Raises StoreUnavailable."""
        async with self._alone() as (connection, master):
            done = [
                await connection.execute(
                    "INSERT INTO keystore.subjects VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    subject,
                    _wrap(master, subject, key),
                )
                for subject, key in sorted(keys.items())
            ]
        return sum(status == "INSERT 0 1" for status in done)

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[tuple[asyncpg.Connection, bytes]]:
        """Hold the key store's lock in a transaction; yield it with the current master key.

        Whoever has the lock destroys what earlier holders left behind: the old master key of a finished change, the
        new one of a change that was rolled back. A holder that lost its connection can commit nothing any more.
        """
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                name = await connection.fetchval(_MASTER)
                if name is None:
                    name, _ = self._masters.make()
                    await connection.execute("INSERT INTO keystore.master (name) VALUES ($1)", name)
                master = self._masters.read(name)
                self._masters.destroy_others(name)
                yield connection, master


async def open_subject_keys(dsn: str, home: Path) -> PostgresSubjectKeys:
    """Open the key store, making its tables and the master key where they are missing.

    Raises StoreUnavailable, KeyFileRefused when the home's master key is another one.
    """
    pool = await open_pool(dsn, size=2, by_key=False)
    with translated():
        async with pool.acquire() as connection, making(connection, SCHEMA):
            await connection.execute(_DDL)
    keys = PostgresSubjectKeys(pool, MasterKeys(home))
    try:
        async with keys._alone():  # noqa: SLF001 - the first use, by its own maker
            pass
    except BaseException:
        await pool.close()
        raise
    return keys


def _wrap(master: bytes, subject: str, key: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, key, _AAD + subject.encode())


def _unwrap(master: bytes, subject: str, wrapped: bytes) -> bytes:
    try:
        return AESGCM(master).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _AAD + subject.encode())
    except InvalidTag:
        raise KeyFileRefused(f"the key of {subject} in the key store was altered, or wrapped by another key") from None

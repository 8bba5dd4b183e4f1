"""Backups of the key store, apart from the backups of facts: files as secret as a key, which end after 30 days.

A backup that is older than someone's erasure still holds that person's key. So it has an end: `expire` destroys it,
and nothing takes it back after that. An erasure is only final everywhere 30 days after it, when every older backup
has ended; what an operator copied elsewhere is the operator's to end in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from events.sealing import KEY_BYTES
from events.values import DAY_MS
from infra.home import replace_file
from infra.keys import KeyFileRefused
from infra.master_keys import shred
from services.kernel.subject_keys import SubjectKeys

DAYS: Final = 30
FORMAT: Final = 1
_NAME: Final = "keystore-*.json"


class KeystoreBackup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds: keys in hex by subject, in the clear. Times in milliseconds UTC."""

    format: int
    made_ms: int
    ends_ms: int
    keys: Mapping[str, str]


async def export_keystore(keys: SubjectKeys, folder: Path, now_ms: int) -> Path:
    """Write all living keys to a new file (0600) in `folder` and return it. Raises StoreUnavailable, OSError."""
    living = await keys.living()
    texts = {subject: key.hex() for subject, key in sorted(living.items())}
    made = KeystoreBackup(FORMAT, now_ms, now_ms + DAYS * DAY_MS, texts)
    path = folder / f"keystore-{datetime.fromtimestamp(now_ms // 1_000, UTC):%Y%m%dT%H%M%SZ}.json"
    replace_file(path, msgspec.json.encode(made))
    return path


async def import_keystore(keys: SubjectKeys, path: Path, erased: Mapping[str, int], now_ms: int) -> int:
    """Take missing keys back and return how many; never an erased member's. Raises KeyFileRefused, StoreUnavailable."""
    found = _read(path)
    if found.ends_ms <= now_ms:
        raise KeyFileRefused(f"{path} ended {_day(found.ends_ms)}: someone in it may have been erased since")
    wanted = {subject: bytes.fromhex(key) for subject, key in found.keys.items() if subject not in erased}
    if any(len(key) != KEY_BYTES for key in wanted.values()):
        raise KeyFileRefused(f"{path} holds a key that is none: take another backup")
    return await keys.restore(wanted)


def expire_keystore_backups(folder: Path, now_ms: int) -> list[Path]:
    """Destroy the backups in `folder` that have ended and return their paths. Raises KeyFileRefused, OSError."""
    ended = [path for path in sorted(folder.glob(_NAME)) if _read(path).ends_ms <= now_ms]
    for path in ended:
        shred(path)
    return ended


def _read(path: Path) -> KeystoreBackup:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=KeystoreBackup)
    except (OSError, msgspec.DecodeError) as error:
        raise KeyFileRefused(f"{path} is no backup of a key store that can be read: {error}") from error
    if found.format != FORMAT:
        raise KeyFileRefused(f"{path} has format {found.format}, this software knows {FORMAT}")
    return found


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1_000, UTC):%Y-%m-%d}"

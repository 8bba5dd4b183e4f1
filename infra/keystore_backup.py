"""Backups of the key store, apart from the backups of facts: files as secret as a key, which end after 30 days.

A backup that is older than someone's erasure still holds that person's key. So it has an end: `expire` destroys it,
and nothing takes it back after that. An erasure is only final everywhere 30 days after it, when every older backup
has ended; what an operator copied elsewhere is the operator's to end in time.

The home remembers the folders it exported to, and the role `clock` looks there every hour: no one has to think of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from events.sealing import KEY_BYTES
from events.values import DAY_MS
from infra.home import KEYS, KEYSTORE_BACKUPS, private_folder, replace_file
from infra.keys import KeyFileRefused
from infra.master_keys import shred
from services.kernel.subject_keys import SubjectKeys

DAYS: Final = 30
FORMAT: Final = 1
FOLDERS: Final = "keystore-backups.list"
"""The file beside the keys that names the folders exported to."""

EVERY_SECONDS: Final = 3_600.0
_LOG: Final = logging.getLogger(__name__)


class KeystoreBackup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds: keys in hex by subject, in the clear. Times in milliseconds UTC."""

    format: int
    made_ms: int
    ends_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**47)]
    keys: Mapping[str, Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * KEY_BYTES}}}$")]]


async def export_keystore(keys: SubjectKeys, folder: Path, now_ms: int) -> Path:
    """Write all living keys to a new file (0600) in `folder` and return it. Raises StoreUnavailable, OSError."""
    living = await keys.living()
    texts = {subject: key.hex() for subject, key in sorted(living.items())}
    made = KeystoreBackup(FORMAT, now_ms, now_ms + DAYS * DAY_MS, texts)
    path = folder / f"keystore-{datetime.fromtimestamp(now_ms // 1_000, UTC):%Y%m%dT%H%M%SZ}.json"
    replace_file(path, msgspec.json.encode(made))
    return path


async def import_keystore(
    keys: SubjectKeys, path: Path, members: Container[str], erased: Container[str], now_ms: int
) -> int:
    """Take missing keys of `members` back and return how many; never an erased one's.

    Others' keys are left out: nobody here could ever erase them. Raises KeyFileRefused, StoreUnavailable.
    """
    found = _read(path)
    if found.ends_ms <= now_ms:
        raise KeyFileRefused(f"{path} ended {_day(found.ends_ms)}: someone in it may have been erased since")
    ours = {subject: bytes.fromhex(key) for subject, key in found.keys.items() if subject in members}
    if found.keys and not ours:
        raise KeyFileRefused(f"{path} is of another community: no key in it is of a member here")
    return await keys.restore({subject: key for subject, key in ours.items() if subject not in erased})


def ended_keystore_backups(folder: Path, now_ms: int) -> tuple[list[Path], list[KeyFileRefused]]:
    """Return the backups in `folder` that have ended, and why others cannot be judged."""
    ended, unread = [], []
    for path in sorted(folder.glob(KEYSTORE_BACKUPS)):
        try:
            if _read(path).ends_ms <= now_ms:
                ended.append(path)
        except KeyFileRefused as error:
            unread.append(error)
    return ended, unread


def expire_keystore_backups(folder: Path, now_ms: int) -> list[Path]:
    """Destroy the backups in `folder` that have ended and return their paths. Raises OSError.

    Raises KeyFileRefused for a file that cannot be read, once all that have ended are gone.
    """
    ended, unread = ended_keystore_backups(folder, now_ms)
    for path in ended:
        shred(path)
    if unread:
        raise unread[0]
    return ended


def remember_folder(home: Path, *folders: Path) -> None:
    """Let the home know that backups of its key store lie in these folders. Raises OSError."""
    known = {*remembered_folders(home), *(folder.resolve() for folder in folders)}
    private_folder(home, KEYS)
    replace_file(home / KEYS / FOLDERS, msgspec.json.encode(sorted(str(each) for each in known)))


def remembered_folders(home: Path) -> list[Path]:
    """Return the folders to which this home exported its key store. Raises KeyFileRefused."""
    path = home / KEYS / FOLDERS
    try:
        return [Path(each) for each in msgspec.json.decode(path.read_bytes(), type=list[str])]
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise KeyFileRefused(f"{path} cannot be read: restore it from your backup ({error})") from error


async def end_keystore_backups(home: Path, now_ms: Callable[[], int], every_seconds: float = EVERY_SECONDS) -> None:
    """Destroy the backups that have ended, for ever, in every folder the home remembers; what fails is logged."""
    while True:
        try:
            for folder in remembered_folders(home):
                if ended := expire_keystore_backups(folder, now_ms()):
                    _LOG.warning("%d backups of the key store in %s ended and were destroyed", len(ended), folder)
        except (KeyFileRefused, OSError) as error:
            _LOG.error("backups of the key store were not all looked at: %s", error)
        await asyncio.sleep(every_seconds)


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

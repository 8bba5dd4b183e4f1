"""Erasure: nobody who was erased has a key any more, and one master key lies in the home."""

from __future__ import annotations

from pathlib import Path

from infra.checks.check import Check, listed
from infra.home import KEYS, MASTER
from infra.keystore_backup import ended_keystore_backups, remembered_folders
from infra.platform import Platform
from services.kernel.directory import Directory


async def erasures(platform: Platform, directory: Directory) -> Check:
    """Compare the key store with the facts. A key that is left is destroyed by the role `follow`."""
    left = [member for member in sorted(directory.erased) if await platform.subject_keys.get(member) is not None]
    if left:
        fix = "start `commons up` with the role follow, and look at its log when this stays"
        return Check("erasures", "broken", f"keys of erased members still stand: {listed(left)}", fix)
    lies = len(list((platform.settings.home / KEYS).glob(f"{MASTER}*.key")))
    told = f"{len(directory.erased):,} members erased, none has a key; {lies} master key(s) in keys/, in the clear"
    return Check("erasures", "ok", told)


def keystore_backups(home: Path, now_ms: int) -> Check:
    """Tell whether a backup of the key store outlived its end: it may still hold an erased member's key."""
    folders = remembered_folders(home)
    late = [str(path) for folder in folders for path in ended_keystore_backups(folder, now_ms)[0]]
    if late:
        fix = "start `commons up` with the role clock, or run `commons keystore expire FOLDER`"
        return Check("keystore backups", "broken", f"past their end: {listed(late)}", fix)
    unread = [str(error) for folder in folders for error in ended_keystore_backups(folder, now_ms)[1]]
    if unread:
        return Check("keystore backups", "warning", listed(unread), "remove what is no backup of a key store")
    away = [str(folder) for folder in folders if not folder.is_dir()]
    if away:
        fix = "when a disk is away, end the backups there in time; nothing else is to be done"
        return Check("keystore backups", "warning", f"not there: {listed(away)}", fix)
    return Check("keystore backups", "ok", f"{len(folders)} folders, nothing in them is past its end")

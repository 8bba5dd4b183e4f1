"""What lies on the disk: permissions, room, keys, and files nobody knows."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.checks.check import Check, listed
from infra.home import DATABASE, FORMAT_FILE, KEYS, PASSING
from infra.key_ring import KeyRing
from infra.local import LEAST_FREE_BYTES
from infra.postgres.place import free_bytes
from services.kernel.directory import Directory

FREE_BYTES: Final = 1 << 30
"""With less room than this the doctor warns."""

OLD_KEY_MS: Final = 365 * 86_400_000

_KNOWN: Final = PASSING | {DATABASE, FORMAT_FILE, KEYS, "agent", "tiles"}


def permissions(home: Path) -> Check:
    """Tell whether the home and everything in it is the operator's alone."""
    wide = [str(path.relative_to(home.parent)) for path in (home, *_everything(home)) if _is_open(path)]
    if wide:
        return Check("permissions", "broken", f"others may read {listed(wide)}", f"chmod -R go-rwx {home}")
    return Check("permissions", "ok", f"{home} and everything in it is the operator's alone")


def _is_open(path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:  # a socket, a draft: gone meanwhile
        return False
    return not stat.S_ISLNK(found.st_mode) and bool(stat.S_IMODE(found.st_mode) & 0o077)


def _everything(home: Path) -> Iterator[Path]:
    """Yield what lies in the home. The database's own files lie behind its folder, which is looked at."""
    for folder, folders, files in os.walk(home):
        here = Path(folder)
        if here == home / DATABASE:
            yield from (here / name for name in folders)
            folders.remove("data") if "data" in folders else None
        elif here != home / "run" / DATABASE:  # the socket's mode is the server's, its folder is ours
            yield from (here / name for name in (*folders, *files))


def space(home: Path) -> Check:
    """Tell how much room is left where the home lies."""
    free = free_bytes(home)
    told = f"{free // 2**20:,} MiB free where the home lies"
    if free < LEAST_FREE_BYTES:
        return Check("disk", "broken", told, "make room: `commons up` does not start with so little")
    if free < FREE_BYTES:
        return Check(
            "disk", "warning", told, "make room; when it is full, commands are answered 507 and nothing is lost"
        )
    return Check("disk", "ok", told)


def unknown_files(home: Path) -> Check:
    """Tell what lies in the home that this software did not put there, or that was put aside."""
    names = sorted(path.name for path in home.iterdir() if path.name not in _KNOWN)
    aside = [name for name in names if name.startswith("replaced-")]
    if aside:
        return Check(
            "files", "warning", f"put aside by a restore: {listed(aside)}", "remove them when you need them no more"
        )
    if names:
        return Check("files", "warning", f"not ours: {listed(names)}", "a backup keeps them; move them elsewhere")
    return Check("files", "ok", "nothing in the home that is not ours")


def keys(home: Path, directory: Directory, now_ms: int) -> Check:
    """Tell where the keys lie, and whether the registry knows the operator's."""
    ring = KeyRing(home)
    where, member = str(home / KEYS), ring.member()
    files = ring.files()
    begun = [file.name.removesuffix(".next") for file in files if file.name.endswith(".next")]
    if begun:
        fix = f"run `commons keys rotate {begun[0]}` to end it"
        return Check("keys", "warning", f"a rotation of {begun[0]} was cut off", fix)
    known = directory.members.get(member)
    if known is not None and known.kid != ring.keys.signing("operator").kid:
        fix = "restore keys/operator.key from a backup made after the last rotation"
        return Check("keys", "broken", f"the registry knows another key of {member} than {where}/operator.key", fix)
    old = [file.name for file in files if file.kid and now_ms - file.since_ms > OLD_KEY_MS]
    if old:
        fix = f"`commons keys rotate {old[0]}` replaces it"
        return Check("keys", "warning", f"older than a year: {listed(old)} (in {where})", fix)
    role = "the operator" if known is not None and "operator" in known.roles else "no operator of this community"
    return Check("keys", "ok", f"{len(files)} in {where}, in the clear, for this account alone; {member} is {role}")
